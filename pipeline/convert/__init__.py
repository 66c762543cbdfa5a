"""Files of any layout to shards. Of its modules only tfrecord_reader.py and tfds_reader.py import TensorFlow."""
