"""TFRecords that other programs wrote: tf.train.Examples of any length, parsed by `tf.io.parse_example` in batches.

An `image` is its raw bytes (uint8, row-major H*W*C) or a PNG or JPEG, which is decided for every record by its content;
`label` and `id` may be absent. Importing this module imports TensorFlow.
"""

import math
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.convert.csv_strict import Rows
from pipeline.convert.source import Mark, Scan, check_unchanged, identify
from pipeline.errors import InputError
from pipeline.files import sha256_of
from pipeline.format.manifest import MAX_CLASSES, MAX_IMAGE_BYTES, Source
from pipeline.format.records import FOOTER_BYTES, HEADER_BYTES, ID, IMAGE, LABEL, UNLABELLED, masked_crc

_BATCH, _BATCH_BYTES = 1024, 16 << 20  # records, and about how many bytes of them, parsed by one call
_NO_ID = -1  # parse_example gives it for an absent id, so a stored -1 counts as absent too
_ENCODED = (b"\x89PNG", b"\xff\xd8\xff")
_PNG_START, _JPEG_MARKS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", (b"JFIF", b"Exif")


class Batch(NamedTuple):
    """Serialised examples, the first of which is record `first` of its file."""

    first: int
    records: list[bytes]


class TfrecordFile:
    """One TFRecord file; it is read from its first record on.

    `image_shape` is (height, width, channels), or None to take it from the first image: encoded, or a square of one
    channel.

    Raises:
        InputError: the file cannot be read, holds no record, or its first record has no image of that shape.
    """

    seekable = False
    first_row = Mark(0, 0)

    def __init__(self, path: str | os.PathLike, image_shape: tuple[int, int, int] | None = None) -> None:
        self.path = pathlib.Path(path)
        self._identity = identify(self.path)
        self.num_bytes = self._identity[2]
        first = next(self.read(self.first_row, None), None)
        if first is None:
            raise InputError(f"{self.path}: has no records")
        features = self._parse(Batch(0, first.records[:1]))
        self.has_labels = bool(features[LABEL][0] != UNLABELLED)
        self.has_ids = bool(features[ID][0] != _NO_ID)
        self.image_shape = image_shape or self._shape_of(features[IMAGE][0])

    def scan_starts(self) -> list[int]:
        """The file is one stretch."""
        return [0]

    def scan(self, start: int, stop: int | None) -> Scan:
        """Count the records and read their labels.

        Raises:
            InputError: a record is corrupt or not an example, or only some have a label or an id.
        """
        labels: list[np.ndarray] = []
        for batch in self.read(Mark(start, 0), stop):
            features = self._parse(batch)
            self._check_all(features[LABEL] != UNLABELLED, self.has_labels, "label")
            self._check_all(features[ID] != _NO_ID, self.has_ids, "id")
            if self.has_labels:
                self._check_labels(batch, features[LABEL])
            labels.append(features[LABEL])
        return Scan((self.first_row,), np.concatenate(labels), bytes.fromhex(sha256_of(self.path)))

    def mark_of_row(self, mark: Mark, row: int) -> Mark:
        return Mark(mark.offset, row)

    def read(self, start: Mark, stop: int | None) -> Iterator[Batch]:
        """All records of the file, in batches.

        Raises:
            InputError: a record is corrupt.
        """
        records: list[bytes] = []
        count = num_bytes = 0
        for record in self._records():
            records.append(record)
            num_bytes += len(record)
            if len(records) == _BATCH or num_bytes > _BATCH_BYTES:
                yield Batch(count, records)
                count, records, num_bytes = count + len(records), [], 0
        if records:
            yield Batch(count, records)
        check_unchanged(self.path, self._identity)

    def parse(self, block: Batch) -> Rows:
        """Images, labels and ids of a batch.

        Raises:
            InputError: a record is not an example, or its image has another shape.
        """
        features = self._parse(block)
        images = np.empty((len(block.records), math.prod(self.image_shape)), np.uint8)
        for row, image in enumerate(features[IMAGE]):
            images[row] = self._pixels(self.place_of(block.first + row), image)
        labels = features[LABEL] if self.has_labels else None
        return Rows(images, labels, features[ID] if self.has_ids else None)

    def place_of(self, row: int) -> str:
        """How messages name a record."""
        return f"{self.path}, record {row} (counted from 0)"

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source | None:
        """None: a data set cannot be rebuilt from TFRecords."""

    def _records(self) -> Iterator[bytes]:
        """The payload of each record. TensorFlow's reader would allocate whatever length a corrupt frame states."""
        left, number = self.num_bytes, 0
        with self.path.open("rb") as file:
            while left:
                header = file.read(HEADER_BYTES)
                length = int.from_bytes(header[:8], "little")
                left -= HEADER_BYTES + length + FOOTER_BYTES
                valid = left >= 0 and masked_crc(header[:8]) == header[8:]
                record = file.read(length) if valid else b""
                if not valid or masked_crc(record) != file.read(FOOTER_BYTES):
                    raise InputError(f"{self.place_of(number)}: corrupt or truncated; write or fetch the file again")
                yield record
                number += 1

    def _parse(self, batch: Batch) -> dict[str, np.ndarray]:
        kinds = {
            IMAGE: tf.io.FixedLenFeature([], tf.string),
            LABEL: tf.io.FixedLenFeature([], tf.int64, UNLABELLED),
            ID: tf.io.FixedLenFeature([], tf.int64, _NO_ID),
        }
        try:
            features = tf.io.parse_example(batch.records, kinds)
        except tf.errors.InvalidArgumentError as error:
            if len(batch.records) > 1:  # find the one at fault
                for row, record in enumerate(batch.records):
                    self._parse(Batch(batch.first + row, [record]))
            raise InputError(
                f"{self.place_of(batch.first)}: not an example with `{IMAGE}` bytes and, if present, an integer "
                f"`{LABEL}` and `{ID}`; convert the data from CSV instead"
            ) from error
        return {key: value.numpy() for key, value in features.items()}

    def _check_all(self, present: np.ndarray, expected: bool, role: str) -> None:
        if (present != expected).any():
            raise InputError(f"{self.path}: only some records have {role}s; put them in a split of their own")

    def _check_labels(self, batch: Batch, labels: np.ndarray) -> None:
        invalid = (labels < 0) | (labels >= MAX_CLASSES)
        if invalid.any():
            row = int(invalid.argmax())
            where = self.place_of(batch.first + row)
            raise InputError(f"{where}: label {labels[row]} is not a class index of 0 to {MAX_CLASSES - 1:,}")

    def _shape_of(self, image: bytes) -> tuple[int, int, int]:
        pixels = _decode(image)
        if pixels is not None:
            return pixels.shape[0], pixels.shape[1], pixels.shape[2]
        side = round(len(image) ** 0.5)
        if side * side == len(image) > 0 and not _is_encoded(image):
            return side, side, 1
        reason = "is raw and not a square of one channel; give --image-shape H W C"
        if image.startswith(_ENCODED):
            reason = "cannot be decoded; write the file again"
        raise InputError(f"{self.place_of(0)}: its image {reason}")

    def _pixels(self, where: str, image: bytes) -> np.ndarray:
        """uint8 [H*W*C]. Raw pixels may begin like a PNG, and a PNG may be as long as raw pixels."""
        size = math.prod(self.image_shape)
        pixels = _decode(image)
        if pixels is None and len(image) == size and not _is_encoded(image):
            return np.frombuffer(image, np.uint8)
        if pixels is None and image.startswith(_ENCODED):
            raise InputError(f"{where}: its image cannot be decoded; write the file again")
        if pixels is None:
            raise InputError(f"{where}: an image of {len(image)} bytes, expected {size}, or a PNG or JPEG")
        if pixels.shape != self.image_shape:
            shape, expected = (" x ".join(map(str, lengths)) for lengths in (pixels.shape, self.image_shape))
            raise InputError(f"{where}: an image of {shape}, expected {expected}; all images need one shape")
        return pixels.reshape(-1)


def _is_encoded(image: bytes) -> bool:
    """Whether it begins as every PNG and most JPEGs do, which raw pixels never do by chance."""
    return image.startswith(_PNG_START) or (image.startswith(_ENCODED[1]) and image[6:10] in _JPEG_MARKS)


def _decode(image: bytes) -> np.ndarray | None:
    """uint8 [H, W, C] of a PNG or JPEG; None if it is not one, or states a size that no image of ours has."""
    if not image.startswith(_ENCODED):
        return None
    try:
        if image.startswith(_ENCODED[0]):
            height, width = int.from_bytes(image[20:24], "big"), int.from_bytes(image[16:20], "big")
        else:
            height, width, _ = tf.io.extract_jpeg_shape(image).numpy().tolist()
        # From the header, before a decoder allocates what it states.
        if height * width > MAX_IMAGE_BYTES:
            return None
        return tf.io.decode_image(image, expand_animations=False).numpy()
    except tf.errors.OpError:
        return None
