"""What programs call: a training from start to end, and data sets for loops of their own."""
