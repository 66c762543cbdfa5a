"""TFRecords as other programs write them: serialised by TensorFlow, so that their lengths vary."""

import pathlib
from collections.abc import Iterable

import tensorflow as tf

from tests.helpers.datasets import bars

IMAGES, LABELS = bars(range(203))


def record(image: bytes | None, **numbers: int) -> bytes:
    """A serialised tf.train.Example."""
    numbers = {key: int(value) for key, value in numbers.items()}
    return example(numbers if image is None else {"image": image, **numbers})


def example(features: dict) -> bytes:
    """A serialised tf.train.Example of bytes, integers, floats, or lists of numbers."""
    return tf.train.Example(
        features=tf.train.Features(feature={key: _feature(value) for key, value in features.items()})
    ).SerializeToString()


def _feature(value) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def write_records(path: pathlib.Path, records: Iterable[bytes]) -> pathlib.Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in records:
            writer.write(data)
    return path


def digit_records() -> list[bytes]:
    """The rows of the fixture `digits`: raw images with labels, and their numbers as ids."""
    rows = zip(IMAGES, LABELS, strict=True)
    return [record(image.tobytes(), label=label, id=row) for row, (image, label) in enumerate(rows)]
