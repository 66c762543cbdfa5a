"""Sample data that the project draws itself, so that everything runs without a download."""
