"""TFRecords as other programs write them: serialised by TensorFlow, so that their lengths vary."""

import pathlib
from collections.abc import Iterable

import tensorflow as tf

from tests.helpers.datasets import bars

IMAGES, LABELS = bars(range(203))


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))


def record(image: bytes | None, **numbers: int) -> bytes:
    """A serialised tf.train.Example."""
    features = {key: _int64(value) for key, value in numbers.items()}
    if image is not None:
        features["image"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path: pathlib.Path, records: Iterable[bytes]) -> pathlib.Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in records:
            writer.write(data)
    return path


def digit_records() -> list[bytes]:
    """The rows of the fixture `digits`: raw images with labels, and their numbers as ids."""
    rows = zip(IMAGES, LABELS, strict=True)
    return [record(image.tobytes(), label=label, id=row) for row, (image, label) in enumerate(rows)]
