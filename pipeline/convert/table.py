"""Rows of any layout as a source for the converter: a reader gives them as the file has them, TableFile as stored.

A table is read from its first row on, by one task.
"""

import dataclasses
import hashlib
import io
import math
import pathlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.convert.compressed import split_member
from pipeline.convert.csv.columns import Columns
from pipeline.convert.csv.strict import Rows
from pipeline.convert.pixels import PixelError, Shape, arrange, find_shape, to_bytes
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.source import Mark, Scan, changed_error, check_unchanged, identify
from pipeline.errors import InputError
from pipeline.files import sha256_of
from pipeline.format.manifest import Source
from pipeline.remote import file_size


class RawRows(NamedTuple):
    """Rows as a file has them.

    `values` are [n, pixels], [n, H, W] or [n, H, W, C] of any numeric dtype; `labels` and `ids` are int64 [n], or an
    object array of str [n] for names, or None if the file has none.
    """

    values: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray | None


class Reader:
    """One file or folder of rows. Cheap to construct, and picklable: its rows follow from the pickle and the file.

    Attributes:
        image_shape: None unless the file states it; flat values then have the order H, W, C.
        class_names: with them the labels are numbers, the places of names in it.
        is_encoded: images have an order and a shape of their own, and the reader has turned and resized them.
        columns: those of a table of text.
        part: which array or column of the file has the images, if there may be several.
        notes: what was guessed about the file, a line each.
        label_advice: how to give labels to a file that has none.
        id_option: the option that chooses the ids.
    """

    path: pathlib.Path
    image_shape: Shape | None = None
    class_names: tuple[str, ...] | None = None
    is_encoded: bool = False
    columns: Columns | None = None
    part: str | None = None
    notes: tuple[str, ...] = ()
    label_advice: str = "name their column with --label-column, or several with --one-hot-labels, give a second file"
    id_option: str = "--id-column"

    @property
    def has_labels(self) -> bool:
        raise NotImplementedError

    @property
    def has_ids(self) -> bool:
        raise NotImplementedError

    def blocks(self) -> Iterator[RawRows]:
        """All rows in order, a few thousand at a time."""
        raise NotImplementedError

    def labels(self) -> Iterator[np.ndarray]:
        """Only the labels, in order, as cheaply as the file allows; -1 for each row of a file without labels."""
        raise NotImplementedError

    def ids(self) -> Iterator[np.ndarray]:
        """Only the ids of a file that has them, in order."""
        return (rows.ids for rows in self.blocks() if rows.ids is not None)

    def place_of(self, row: int) -> str:
        """How messages name a row, counted from 0."""
        raise NotImplementedError

    def values_of(self, column: str) -> list[str] | None:
        """The different values of a column, by name or 0-based index; None if there is no such column.

        Raises:
            InputError: a file of this kind is of one split.
        """
        raise InputError(
            f"{self.path}: --split-column divides tables of text and lists of image files; write a file per split"
        )

    def rows_with(self, column: str, values: Sequence[str]) -> "Reader":
        """A reader of the rows that have one of these values in a column."""
        raise NotImplementedError


class Block(NamedTuple):
    """Raw rows, the first of which is row `first` of its file."""

    first: int
    rows: RawRows


class _Pickler(pickle.Pickler):
    """A pickler of paths by their text: how they were put together shows in their usual pickles."""

    def reducer_override(self, value: Any) -> Any:
        return (str, (str(value),)) if isinstance(value, pathlib.PurePath) else NotImplemented


def _as_bytes(value: Any) -> bytes:
    """The same bytes for equal values, in any process."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.fast = True  # no memo: it would show which equal values are one object
    pickler.dump(value)
    return buffer.getvalue()


class TableFile:
    """A reader's rows with the pixels, order and classes that are stored.

    `classes` maps names of labels to the numbers of classes, those of all files of a conversion.

    Raises:
        InputError: the file has no rows, or the shape of its images is unknown or another than the one given.
    """

    seekable = False
    first_row = Mark(0, 0)

    def __init__(
        self, reader: Reader, options: ReadOptions = ReadOptions(), classes: Mapping[str, int] | None = None
    ) -> None:
        self.reader = reader
        self.path = reader.path
        self._options = options
        self._reading = options
        if reader.is_encoded:
            self._reading = dataclasses.replace(options, layout=None, transpose=False, image_size=None, channels=None)
        self._classes = classes or {}
        file, _ = split_member(self.path)
        self._identity = identify(file) if file_size(file) is not None else None
        self.num_bytes = self._identity[2] if self._identity else 0
        known, stored = reader.image_shape, reader.image_shape
        if known is None or self._reading.layout is not None:
            first = next(iter(reader.blocks()), None)
            if first is None or not len(first.values):
                raise InputError(f"{self.path}: has no rows")
            stored = first.values.shape[1:]
        self._own_shape = find_shape(str(self.path), tuple(stored or ()), known, self._reading)
        self.image_shape = self._reading.fitted(self._own_shape)

    @property
    def has_labels(self) -> bool:
        return self.reader.has_labels

    @property
    def has_ids(self) -> bool:
        return self.reader.has_ids

    def scan_starts(self) -> list[int]:
        """The file is one stretch."""
        return [0]

    def scan(self, start: int, stop: int | None) -> Scan:
        """Count the rows and read their labels; the digest is that of the file and of all that decides its rows."""
        labels = [np.empty(0, np.int64)]
        for block in self.reader.labels():
            labels.append(self._to_numbers(sum(map(len, labels)), block) if self.has_labels else block)
        digest = hashlib.sha256(_as_bytes((self.reader, self._options, self._classes)))
        if self._identity is not None:
            digest.update(sha256_of(split_member(self.path)[0]).encode())
        return Scan((self.first_row,), np.concatenate(labels), digest.digest())

    def mark_of_row(self, mark: Mark, row: int) -> Mark:
        return Mark(mark.offset, row)

    def read(self, start: Mark, stop: int | None) -> Iterator[Block]:
        """All rows of the file, in blocks.

        Raises:
            InputError: the file is corrupt or changed since it was opened.
        """
        first = 0
        for rows in self.reader.blocks():
            yield Block(first, rows)
            first += len(rows.values)
        if self._identity is not None:
            check_unchanged(self.path, self._identity)

    def parse(self, block: Block) -> Rows:
        """Images, labels and ids of a block; ids that are names are left to `text_ids`.

        Raises:
            InputError: a value is not a pixel, or a label not a class.
        """
        values, labels, ids = block.rows
        if math.prod(values.shape[1:]) != math.prod(self._own_shape):
            shape = " x ".join(map(str, self._own_shape))
            raise InputError(
                f"{self.place_of(block.first)}: an image of {math.prod(values.shape[1:])} values, expected {shape}"
            )
        arranged = arrange(values, self._own_shape, self.reader.image_shape is not None, self._reading)
        try:
            images = to_bytes(arranged, self._options.pixel_range)
        except PixelError as error:
            raise InputError(f"{self.place_of(block.first + error.row)}: {error}") from error
        if self.image_shape != self._own_shape:
            images = self._fit(images)
        numbers = None if labels is None else self._to_numbers(block.first, labels)
        return Rows(images, numbers, None if ids is None or ids.dtype == object else ids)

    def _fit(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [n, pixels] in the size, and with the channels, that the options ask for."""
        from pipeline.convert.readers.pictures import fit_picture  # here, because it imports Pillow

        originals, options = images.reshape(-1, *self._own_shape), dataclasses.replace(self._reading, transpose=False)
        return np.stack([fit_picture(str(self.path), image, options).reshape(-1) for image in originals])

    def text_ids(self) -> Iterator[np.ndarray]:
        """Ids that are text, object arrays of str in the order of the rows; nothing if they are numbers or absent."""
        for ids in self.reader.ids() if self.has_ids else ():
            if ids.dtype != object:
                return  # the others are numbers too, and reading them may take as long as the conversion
            yield ids

    def place_of(self, row: int) -> str:
        """How messages name a row."""
        return self.reader.place_of(row)

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source | None:
        """None: the manifest has no place for the options that read the file, so a repair cannot read it again."""

    def _to_numbers(self, first: int, labels: np.ndarray) -> np.ndarray:
        """int64 [n]: the class of each label, the first of which is that of row `first`."""
        names = self.reader.class_names
        if labels.dtype != object:
            invalid = labels < 0
            if invalid.any():
                row = int(invalid.argmax())
                raise InputError(f"{self.place_of(first + row)}: label {labels[row]} is negative")
            if names is None:
                return labels.astype(np.int64)
        try:
            of_row = labels.tolist() if names is None else [names[label] for label in labels.tolist()]
            return np.array([self._classes[name] for name in of_row], np.int64)
        except (KeyError, IndexError) as error:
            raise changed_error(self.path) from error
