"""TFRecords of other programs and data sets of TensorFlow Datasets, as sources of a conversion."""
