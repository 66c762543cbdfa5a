"""A tf.data training pipeline for image data kept as CSVs."""
