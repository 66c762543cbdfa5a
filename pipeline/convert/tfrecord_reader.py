"""TFRecords that other programs wrote: tf.train.Examples of any length, parsed by `tf.io.parse_example` in batches.

An `image` is its raw bytes (uint8, row-major H*W*C) or a PNG or JPEG; `label` and `id` may be absent. This is the one
module of the room that needs TensorFlow.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.format.records import ID, IMAGE, LABEL, UNLABELLED

_BATCH = 1024  # records parsed by one call
_NO_ID = -1
_ENCODED = (b"\x89PNG", b"\xff\xd8\xff")


@dataclasses.dataclass(frozen=True)
class Examples:
    """images uint8 [n, H*W*C], labels int64 [n] (UNLABELLED where absent), ids int64 [n] or None."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray | None


def read_examples(path: str | os.PathLike, image_shape: tuple[int, int, int]) -> Iterator[Examples]:
    """The records of one file in their order, some at a time.

    Raises:
        InputError: a record is damaged, has no image, or one of another size, or only some have an id.
    """
    path = pathlib.Path(path)
    first = 0
    for serialized in _batches(path):
        yield _parse(path, first, serialized, image_shape)
        first += len(serialized)


def image_shape_of(path: str | os.PathLike) -> tuple[int, int, int] | None:
    """(height, width, channels) of a file's first image where it is encoded or a square of one channel, else None.

    Raises:
        InputError: the file holds no record, or the first has no image.
    """
    path = pathlib.Path(path)
    first = next(_batches(path), None)
    if first is None:
        raise InputError(f"{path}: holds no record")
    image = _features(path, 0, first[:1])[IMAGE].numpy()[0]
    if image.startswith(_ENCODED):
        return tuple(tf.io.decode_image(image, expand_animations=False).shape)
    side = round(len(image) ** 0.5)
    return (side, side, 1) if side * side == len(image) else None


def _batches(path: pathlib.Path) -> Iterator[tf.Tensor]:
    done = 0
    try:
        for serialized in tf.data.TFRecordDataset(os.fspath(path)).batch(_BATCH):
            done += len(serialized)
            yield serialized
    except tf.errors.DataLossError as error:
        record = done + _readable(path, done)
        raise InputError(
            f"{path}: record {record} (counted from 0) is damaged; write or fetch the file again"
        ) from error
    except tf.errors.OpError as error:
        raise InputError(f"{path}: cannot be read ({error.message.splitlines()[0]})") from error


def _readable(path: pathlib.Path, skip: int) -> int:
    """How many records after the first `skip` can be read."""
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(os.fspath(path)).skip(skip):
            count += 1
    except tf.errors.DataLossError:
        pass
    return count


def _features(path: pathlib.Path, first: int, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    kinds = {
        IMAGE: tf.io.FixedLenFeature([], tf.string),
        LABEL: tf.io.FixedLenFeature([], tf.int64, UNLABELLED),
        ID: tf.io.FixedLenFeature([], tf.int64, _NO_ID),
    }
    try:
        return tf.io.parse_example(serialized, kinds)
    except tf.errors.InvalidArgumentError as error:
        for place in range(len(serialized)):
            try:
                tf.io.parse_example(serialized[place : place + 1], kinds)
            except tf.errors.InvalidArgumentError:
                first += place
                break
        raise InputError(
            f"{path}: record {first} (counted from 0) is no example with `{IMAGE}` bytes and, where there are any, "
            f"an integer `{LABEL}` and `{ID}`; convert the data from CSV instead"
        ) from error


def _parse(path: pathlib.Path, first: int, serialized: tf.Tensor, image_shape: tuple[int, int, int]) -> Examples:
    found = _features(path, first, serialized)
    ids = found[ID].numpy()
    without = ids == _NO_ID
    if without.any() and not without.all():
        raise InputError(f"{path}: some records have an id and some have none; give all of them one, or none")
    images = _pixels(path, first, found[IMAGE], image_shape)
    return Examples(images, found[LABEL].numpy(), None if without.any() else ids)


def _pixels(path: pathlib.Path, first: int, image: tf.Tensor, image_shape: tuple[int, int, int]) -> np.ndarray:
    size = int(np.prod(image_shape))
    lengths = tf.strings.length(image).numpy()
    # `decode_raw` would pad or cut an image of another size without a word.
    if (lengths == size).all():
        return tf.io.decode_raw(image, tf.uint8, fixed_length=size).numpy()
    rows = np.empty((len(lengths), size), np.uint8)
    for place, encoded in enumerate(image.numpy()):
        rows[place] = _decoded(f"{path}: record {first + place} (counted from 0)", encoded, image_shape)
    return rows


def _decoded(where: str, encoded: bytes, image_shape: tuple[int, int, int]) -> np.ndarray:
    size = int(np.prod(image_shape))
    if len(encoded) == size and not encoded.startswith(_ENCODED):
        return np.frombuffer(encoded, np.uint8)
    if not encoded.startswith(_ENCODED):
        raise InputError(f"{where}: an image of {len(encoded)} bytes, expected {size} or a PNG or JPEG")
    try:
        pixels = tf.io.decode_image(encoded, channels=image_shape[2], expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise InputError(f"{where}: its image cannot be decoded; write the file again") from error
    if pixels.shape != image_shape:
        found, expected = (" x ".join(map(str, shape)) for shape in (pixels.shape, image_shape))
        raise InputError(f"{where}: an image of {found}, expected {expected}; all images need one shape")
    return pixels.reshape(-1)
