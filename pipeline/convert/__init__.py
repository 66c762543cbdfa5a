"""CSV to shards. Nothing here needs TensorFlow, except tfrecord_reader.py, which reads what other programs wrote."""
