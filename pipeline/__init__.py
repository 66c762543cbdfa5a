"""From CSVs of images to a trained classifier: convert, feed, train, evaluate."""

__version__ = "0.2.0.dev0"
