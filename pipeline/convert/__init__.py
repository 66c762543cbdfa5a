"""CSV to shards. Nothing here needs TensorFlow, except tfrecord_reader.py and importer.py, which reads with it."""
