"""Files of any layout to shards. Of its modules only tfrecord_reader.py and tfds_reader.py import TensorFlow."""

import pipeline

pipeline.make_callable(__name__)
