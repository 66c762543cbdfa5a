"""Files of any layout to shards. Of its modules only tfrecords/reader.py and tfrecords/tfds.py import TensorFlow."""

import pipeline

pipeline.make_callable(__name__)
