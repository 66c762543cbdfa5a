"""What a user would run instead of our feed, on the same shards: whole recipes, as their guides give them."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.feed.resident import SplitArrays

_SHUFFLE_BUFFER = 10_000


def textbook(paths: Sequence[str], image_bytes: int, batch_size: int, dtype: str, cached: bool) -> tf.data.Dataset:
    """The recipe of tf.data's performance guide (https://www.tensorflow.org/guide/data_performance): image by image.

    Elements are (image [batch, image_bytes], label [batch]); they repeat without end.
    """
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def parse(record: tf.Tensor) -> Any:
        example = tf.io.parse_single_example(record, features)
        image = tf.ensure_shape(tf.io.decode_raw(example["image"], tf.uint8), (image_bytes,))
        return (image if dtype == "uint8" else tf.cast(image, dtype) / 255), example["label"]

    dataset = tf.data.Dataset.from_tensor_slices(list(paths)).interleave(
        tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False
    )
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    if cached:  # before the shuffle: after it, every epoch would repeat the order of the first
        dataset = dataset.cache()
    return dataset.shuffle(_SHUFFLE_BUFFER).repeat().batch(batch_size).prefetch(tf.data.AUTOTUNE)


def tfds_recipe(directory: str | os.PathLike, batch_size: int) -> tf.data.Dataset:
    """The training recipe of TensorFlow Datasets (https://www.tensorflow.org/datasets/keras_example), float32.

    Raises:
        ImportError: tensorflow_datasets is not installed.
    """
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of a deprecated field of its own
    builder = tfds.builder_from_directory(os.fspath(directory))
    dataset = builder.as_dataset(split="train", shuffle_files=True)

    def normalize(example: Any) -> Any:
        return tf.cast(example["image"], tf.float32) / 255.0, example["label"]

    dataset = dataset.map(normalize, num_parallel_calls=tf.data.AUTOTUNE).cache()
    count = builder.info.splits["train"].num_examples
    return dataset.shuffle(count).repeat().batch(batch_size).prefetch(tf.data.AUTOTUNE)


def keras_arrays(arrays: SplitArrays, batch_size: int) -> tf.data.Dataset:
    """What `fit(x, y)` makes of NumPy arrays, as uint8; one epoch after another."""
    # Keras has no public way to get at it.
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    adapter = ArrayDataAdapter(arrays.images, arrays.labels, batch_size=batch_size, shuffle=True)
    return adapter.get_tf_dataset().repeat()


def numpy_gather(images: np.ndarray, order: np.ndarray, dtype: str) -> np.ndarray:
    """A batch by fancy indexing, in new memory and on one thread; floats are scaled to 0..1."""
    batch = images[order]
    return batch if dtype == "uint8" else batch.astype(dtype) * np.float32(1 / 255)
