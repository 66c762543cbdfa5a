"""A tf.data training pipeline for image data kept as CSVs."""

__version__ = "0.2.0"
