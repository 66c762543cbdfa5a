"""TFRecords that other programs wrote: tf.train.Examples of any length, parsed by `tf.io.parse_example` in batches.

An image is its raw bytes (uint8 or a given type, row-major H*W*C), numbers, a serialised tensor, or a PNG or JPEG, as
its content shows; label and id may be absent. Importing this module imports TensorFlow.
"""

import math
import pathlib
import typing
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.convert.pixels import Shape
from pipeline.convert.read_options import PLANES, ReadOptions
from pipeline.convert.readers.labels import as_labels, as_names
from pipeline.convert.readers.pictures import gray_notes, read_picture, shape_mismatch
from pipeline.convert.source import identify
from pipeline.convert.table import RawRows, Reader
from pipeline.convert.tfrecords.files import place_of, read_records
from pipeline.convert.tfrecords.keys import (
    BYTES,
    FLOATS,
    INTEGERS,
    Feature,
    Keys,
    find_keys,
    list_features,
    stated_shape,
)
from pipeline.convert.tfrecords.raw_images import check_raw, raw_numbers, square_shape
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_CLASSES
from pipeline.format.records import ID, LABEL, UNLABELLED

_BATCH, _BATCH_BYTES = 1024, 16 << 20  # records, and about how many bytes of them, parsed by one call
_NO_ID = -1  # parse_example gives it for an absent id, so a stored -1 counts as absent too
_ENCODED = (b"\x89PNG", b"\xff\xd8\xff")
_PNG_START, _JPEG_MARKS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", (b"JFIF", b"Exif")
_NUMBER = Feature(INTEGERS, 1)
_TYPES = {BYTES: tf.string, INTEGERS: tf.int64, FLOATS: tf.float32}
_ABSENT: dict[str, str | int | float] = {BYTES: "", INTEGERS: -1, FLOATS: -1.0}

Values = dict[str, np.ndarray]


class _Keys(NamedTuple):
    """Keys of the features to parse; a label or an id of this key may be absent."""

    image: str
    label: str
    id: str


class Batch(NamedTuple):
    """Serialised examples, the first of which is record `first` of its file."""

    first: int
    records: list[bytes]


class TfrecordReader(Reader):
    """One TFRecord file, plain or compressed.

    The shape of raw images is that of `options.image_shape`, or as the first record states it, or a square of one
    channel; that of encoded ones follows from the first of them and from `options`. `known_shape`: that of other files.
    `image_shape` is None if raw values have another order (`options.layout`, `options.transpose`).

    Raises:
        InputError: the file cannot be read, holds no record, or its first record has no image of that shape.
    """

    id_option = "--id-key"

    def __init__(
        self,
        path: pathlib.Path,
        options: ReadOptions,
        keys: Keys,
        known_shape: Shape | None = None,
    ) -> None:
        self.path, self._options, self._type = path, options, keys.image_type
        identify(path)
        first = next(self._batches(), None)
        if first is None:
            raise InputError(f"{path}: has no records")
        features = _features_of(self.place_of(0), first.records[0])
        found = find_keys(self.place_of(0), features, keys)
        # Only some records may have a label or an id, so their keys are looked up even if the first record lacks them.
        self._keys = _Keys(str(found.image), found.label or keys.label or LABEL, found.id or keys.id or ID)
        self._features = {self._keys.label: _NUMBER, self._keys.id: _NUMBER, **features}
        values = self._parse(first)
        self._has = [key for key in (self._keys.label, self._keys.id) if self._present(values, key)[0]]
        self.notes = self._describe()
        self.label_advice = f"choose with --label-key, or give --label-key none; it has {list_features(features)}"
        self.known_shape = known_shape
        self.is_encoded = self._decode(self.place_of(0), values[self._keys.image][0]) is not None
        self.known_shape = known_shape or self._find_shape(values[self._keys.image])
        reordered = not self.is_encoded and (options.layout == PLANES or options.transpose)
        self.image_shape = None if reordered else self.known_shape

    @property
    def has_labels(self) -> bool:
        return self._keys.label in self._has

    @property
    def has_ids(self) -> bool:
        return self._keys.id in self._has

    def blocks(self) -> Iterator[RawRows]:
        """All records.

        Raises:
            InputError: a record is not an example, or its image has another shape.
        """
        for batch in self._batches():
            values = self._parse(batch)
            images = [
                self._pixels(self.place_of(batch.first + row), image)
                for row, image in enumerate(values[self._keys.image])
            ]
            pixels = np.stack(images)
            pixels = pixels.reshape(len(images), -1) if self.image_shape is None else pixels
            yield RawRows(pixels, self._labels_of(batch.first, values), self._ids_of(values))

    def labels(self) -> Iterator[np.ndarray]:
        """The labels, or -1 for each record; whether each record has a label and an id is checked besides."""
        for batch in self._batches():
            values = self._parse(batch)
            for role, key in (("label", self._keys.label), ("id", self._keys.id)):
                if (self._present(values, key) != (key in self._has)).any():
                    raise InputError(f"{self.path}: only some records have {role}s; put them in a split of their own")
            labels = self._labels_of(batch.first, values)
            yield np.full(len(batch.records), UNLABELLED) if labels is None else labels

    def ids(self) -> Iterator[np.ndarray]:
        """The ids alone, of a file that has them."""
        for batch in self._batches():
            ids = self._ids_of(self._parse(batch))
            if ids is not None:
                yield ids

    def place_of(self, row: int) -> str:
        """How messages name a record."""
        return place_of(self.path, row)

    def _batches(self) -> Iterator[Batch]:
        records: list[bytes] = []
        count = num_bytes = 0
        for record in read_records(self.path):
            records.append(record)
            num_bytes += len(record)
            if len(records) == _BATCH or num_bytes > _BATCH_BYTES:
                yield Batch(count, records)
                count, records, num_bytes = count + len(records), [], 0
        if records:
            yield Batch(count, records)

    def _parse(self, batch: Batch) -> Values:
        kinds = {key: self._kind_of(key) for key in self._keys}
        try:
            values = tf.io.parse_example(batch.records, kinds)
        except tf.errors.InvalidArgumentError as error:
            if len(batch.records) > 1:  # find the one at fault
                for row, record in enumerate(batch.records):
                    self._parse(Batch(batch.first + row, [record]))
            raise InputError(self._unlike_first(batch)) from error
        return {key: value.numpy() for key, value in values.items()}

    def _kind_of(self, key: str) -> tf.io.FixedLenFeature:
        kind, count, *_ = self._features[key]
        if key == self._keys.image or count > 1:
            return tf.io.FixedLenFeature([] if count == 1 else [count], _TYPES[kind])
        return tf.io.FixedLenFeature([], _TYPES[kind], _ABSENT[kind])

    def _unlike_first(self, batch: Batch) -> str:
        """The message for a record that is no example, or whose features are not those of the first."""
        where = self.place_of(batch.first)
        expected = {key: self._features[key] for key in self._keys}
        own = list_features(_features_of(where, batch.records[0]))
        return f"{where}: has {own}, but the first record {list_features(expected)}; all need the same"

    def _present(self, values: Values, key: str) -> np.ndarray:
        """bool [n]: whether each record has a label, or an id."""
        feature = self._features[key]
        if feature.number > 1:
            return np.ones(len(values[key]), bool)
        return values[key] != (b"" if feature.kind == BYTES else -1)

    def _labels_of(self, first: int, values: Values) -> np.ndarray | None:
        if not self.has_labels:
            return None
        labels = as_labels(f"{self.path}, feature {self._keys.label}", _texts(values[self._keys.label]))
        if labels.dtype != object:
            invalid = (labels < 0) | (labels >= MAX_CLASSES)
            if invalid.any():
                row = int(invalid.argmax())
                where = self.place_of(first + row)
                raise InputError(f"{where}: label {labels[row]} is not a class index of 0 to {MAX_CLASSES - 1:,}")
        return labels

    def _ids_of(self, values: Values) -> np.ndarray | None:
        return (
            as_labels(f"{self.path}, feature {self._keys.id}", _texts(values[self._keys.id])) if self.has_ids else None
        )

    def _find_shape(self, images: np.ndarray) -> Shape:
        where, image = self.place_of(0), images[0]
        pixels = self._decode(where, image)
        if pixels is not None:
            self.notes += gray_notes(pixels, self._options)
            height, width, channels = pixels.shape
            return height, width, channels
        values = raw_numbers(where, image, self._type)
        shape = self._options.image_shape or stated_shape(self._features)
        if shape is None and values.ndim in (2, 3):  # a tensor
            height, width, channels = (*values.shape, 1)[:3]
            shape = height, width, channels
        if shape is not None:
            check_raw(where, values.size, shape)
            return shape
        are_bytes = isinstance(image, bytes) and values.dtype == np.uint8 and self._type is None
        return square_shape(where, values.size, b"".join(images) if are_bytes else b"")

    def _pixels(self, where: str, image: bytes | np.ndarray) -> np.ndarray:
        """[H, W, C]. Raw pixels may begin like a PNG, and a PNG may be as long as raw pixels."""
        shape = typing.cast(Shape, self.known_shape)
        pixels = self._decode(where, image)
        if pixels is None:
            values = raw_numbers(where, image, self._type)
            check_raw(where, values.size, shape)
            return values.reshape(shape)
        if pixels.shape != shape:
            raise InputError(f"{where}: {shape_mismatch(pixels.shape, shape, 'the first record')}")
        return pixels

    def _decode(self, where: str, image: bytes | np.ndarray) -> np.ndarray | None:
        """[H, W, C] of a PNG or JPEG; None for raw bytes, and for integers."""
        if not isinstance(image, bytes) or not image.startswith(_ENCODED):
            return None
        try:
            return read_picture(where, image, self._options)
        except InputError:
            # Every PNG and most JPEGs begin like this, raw pixels never do by chance.
            encoded = image.startswith(_PNG_START) or image[6:10] in _JPEG_MARKS
            if encoded or not self._may_be_raw(len(image)):
                raise
            return None

    def _may_be_raw(self, size: int) -> bool:
        """Whether raw images have that many bytes, as far as their shape is known."""
        shape = self.known_shape or self._options.image_shape or stated_shape(self._features)
        size //= np.dtype(self._type or "uint8").itemsize
        return size == (math.isqrt(size) ** 2 if shape is None else math.prod(shape))

    def _describe(self) -> tuple[str, ...]:
        """What was guessed: keys with other names than ours."""
        label = self._keys.label if self.has_labels else None
        identity = self._keys.id if self.has_ids else None
        if (self._keys.image, label or "label", identity or "id") == ("image", "label", "id"):
            return ()
        return (
            f"images from feature {self._keys.image}, labels from {label or 'none'}, ids from {identity or 'none'}",
        )


def _texts(values: np.ndarray) -> np.ndarray:
    """Bytes of parse_example, an object array, as NumPy's texts."""
    if values.dtype != object:
        return values
    return as_names([value.decode("utf-8", "replace") for value in values])


def _features_of(where: str, record: bytes) -> dict[str, Feature]:
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # protobuf's DecodeError, which has moved between its modules
        raise InputError(f"{where}: not a tf.train.Example; import examples, or convert the data from CSV") from error
    return {key: _feature(value) for key, value in features.items()}


def _feature(feature: "tf.train.Feature") -> Feature:
    kind = feature.WhichOneof("kind")
    if kind is None:
        return Feature("nothing", 0)
    values = getattr(feature, kind).value
    if kind == "bytes_list":
        return Feature(BYTES, len(values), len(values[0]) if values else 0)
    if kind == "float_list":
        return Feature(FLOATS, len(values))
    return Feature(INTEGERS, len(values), 0, int(values[0]) if len(values) == 1 else None)
