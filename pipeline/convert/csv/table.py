"""Text tables that are not plain numbers between commas: names as labels and ids, other separators, extra columns.

pandas reads them, some thousand rows at a time. It is imported when the first row is read.
"""

import dataclasses
import io
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.convert.compressed import open_text
from pipeline.convert.csv.columns import Columns, column_place
from pipeline.convert.csv.layout import CELL_MARKS, Layout
from pipeline.convert.csv.parser import parse_fast
from pipeline.convert.csv.strict import is_number, whole_number
from pipeline.convert.pixels import Shape
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.labels import first_not_one_hot
from pipeline.convert.source import changed_error
from pipeline.convert.table import RawRows, Reader
from pipeline.errors import InputError, shorten
from pipeline.format.manifest import MAX_CLASSES

_BLOCK_VALUES = 1 << 20  # of a block: as int64 they take 8 MiB
_BLOCK_CELLS = 512  # rows of a block if a cell has all pixels of an image
_COLORS = 3
_END = 1e300  # behind the last pixel of a cell, to see that all were read


@dataclasses.dataclass
class CsvTable(Reader):
    """A reader of a text table.

    `split_column` and `split_values`: only rows with one of these values in that column.
    """

    path: pathlib.Path
    layout: Layout
    options: ReadOptions = ReadOptions()
    split_column: int | None = None
    split_values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.image_shape, self.columns, self.notes = self._stated_shape(), self.layout.columns, self.layout.notes

    @property
    def has_labels(self) -> bool:
        return self.layout.columns.label is not None or bool(self.layout.one_hot)

    @property
    def has_ids(self) -> bool:
        return self.layout.columns.id is not None

    def blocks(self) -> Iterator[RawRows]:
        """All rows in order.

        Raises:
            InputError: a cell is not what its column should have, or the file is corrupt.
        """
        columns = self.layout.columns
        for frame in self._frames(None):
            if self.layout.ends_empty:
                self._check_end(frame[columns.count - 1])
            labels = self._labels(frame) if self.has_labels else None
            ids = None if columns.id is None else self._texts(frame[columns.id], self.layout.text_id)
            yield RawRows(self._pixels(frame), labels, ids)

    def labels(self) -> Iterator[np.ndarray]:
        """The labels alone; -1 for each row of a file without labels."""
        columns = self.layout.columns
        for frame in self._frames([0 if columns.label is None else columns.label, *self.layout.one_hot]):
            yield self._labels(frame) if self.has_labels else np.full(len(frame), -1)

    def ids(self) -> Iterator[np.ndarray]:
        """The ids alone, of a file that has them."""
        column = self.layout.columns.id or 0
        for frame in self._frames([column]):
            yield self._texts(frame[column], self.layout.text_id)

    def values_of(self, column: str) -> list[str] | None:
        """The different values of a column, in the order of their first rows; None if there is no such column."""
        place = self._place_of_column(column)
        if place is None:
            return None
        values: dict[str, None] = {}
        for frame in self._frames([place]):
            values.update(dict.fromkeys(frame[place].str.strip().unique().tolist()))
            if len(values) > MAX_CLASSES:
                raise InputError(f"{self.path}: over {MAX_CLASSES:,} different values in column {column}")
        return list(values)

    def rows_with(self, column: str, values: Sequence[str]) -> "CsvTable":
        """The rows that have one of these values in a column."""
        return dataclasses.replace(self, split_column=self._place_of_column(column), split_values=tuple(values))

    def _stated_shape(self) -> Shape | None:
        """Known if columns are named after colors: (height, width, 3) as stored."""
        if self.options.layout is not None or self.layout.columns.layout is None:
            return None
        if self.options.image_shape is not None:
            height, width, _ = self.options.image_shape
            return (width, height, _COLORS) if self.options.transpose else (height, width, _COLORS)
        num_pixels = self.layout.columns.num_pixels
        side = math.isqrt(num_pixels // _COLORS)
        if side * side * _COLORS != num_pixels:
            raise InputError(f"{self.path}: {num_pixels} pixels of 3 colors are not square; give --image-shape H W 3")
        return side, side, _COLORS

    def _place_of_column(self, column: str) -> int | None:
        return column_place(column, self.layout.columns.names, self.layout.columns.count)

    def place_of(self, row: int) -> str:
        """How messages name a row; the file is read again to find its line."""
        if self.split_column is None:
            return self._place(row)
        for frame in self._frames([self.split_column]):
            if row < len(frame):
                return self._place(frame.index[row])
            row -= len(frame)
        raise changed_error(self.path)

    def _frames(self, used: list[int] | None) -> Iterator[Any]:
        """Some rows of this part of the file at a time, with these columns or all, indexed by their numbers."""
        import pandas

        columns = self.layout.columns
        texts = {columns.label, columns.id, self.split_column, *columns.others} - {None, *self.layout.one_hot}
        if self.layout.in_one_cell:
            texts |= set(columns.pixel_indices)
        if used is not None and self.split_column is not None:
            used = sorted({*used, self.split_column})
        with open_text(self.path) as (stream, _), io.BufferedReader(stream) as buffered:
            try:
                frames = pandas.read_csv(
                    buffered,
                    sep=self.layout.separator,
                    header=None,
                    names=range(columns.count),
                    index_col=False,
                    usecols=used,
                    skiprows=self.layout.skip,
                    skipinitialspace=True,
                    dtype={column: str for column in texts if used is None or column in used},
                    na_filter=False,
                    low_memory=False,
                    encoding="utf-8-sig",
                    chunksize=_BLOCK_CELLS if self.layout.in_one_cell else max(1, _BLOCK_VALUES // columns.count),
                )
                with frames:
                    for frame in frames:
                        yield from self._part_of(frame)
            except pandas.errors.EmptyDataError:
                return
            except (pandas.errors.ParserError, UnicodeDecodeError) as error:
                reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
                raise InputError(f"{self.path}: {reason}; all rows need {columns.count} columns, in UTF-8") from error

    def _part_of(self, frame: Any) -> list[Any]:
        """The rows of this part of the file, if there are any."""
        if self.split_column is not None:
            frame = frame[frame[self.split_column].str.strip().isin(list(self.split_values))]
        return [frame] if len(frame) else []

    def _pixels(self, frame: Any) -> np.ndarray:
        """Numbers [n, pixels], or [n, H, W, 3] if names of columns say so."""
        if self.layout.in_one_cell:
            return self._cells(frame[self.layout.columns.pixel_indices[0]])
        pixels = frame[self.layout.columns.pixel_indices]
        values = pixels.to_numpy()
        if values.dtype.kind not in "iuf":
            self._check_numbers(pixels)
            values = values.astype(np.float64)
        if self.image_shape is not None and self.layout.columns.layout == "CHW":
            height, width, channels = self.image_shape
            values = np.moveaxis(values.reshape(-1, channels, height, width), 1, -1)
        return values

    def _check_end(self, column: Any) -> None:
        """Refuse values behind the separator that ends the first row."""
        filled = column.str.strip() != ""
        if filled.any():
            row, number = filled.idxmax(), self.layout.columns.count - 1
            raise InputError(
                f"{self._place(row)}: column {number} (counted from 0): {shorten(column[row])}, but it is empty in the "
                f"first row; fill it in there, or ignore the column with --drop-column {number}"
            )

    def _cells(self, cells: Any) -> np.ndarray:
        """Numbers [n, pixels] of cells that have all pixels of an image."""
        plain = _plain_numbers(cells)
        if plain is not None:
            return plain
        images = [_numbers(cell) for cell in cells]
        expected = max(map(len, images), default=0) or 1
        for row, (image, cell) in enumerate(zip(images, cells, strict=True)):
            if len(image) == expected:
                continue
            value = next((value for value in cell.translate(CELL_MARKS).split() if not is_number(value)), None)
            wrong = f"{len(image)} pixels, another row has {expected}"
            if value is not None:
                wrong = f"pixel {shorten(value)} is not a number"
            raise InputError(f"{self._place(cells.index[row])}: {wrong}")
        return np.stack(images)

    def _check_numbers(self, pixels: Any) -> None:
        columns = self.layout.columns
        for row, values in zip(pixels.index, pixels.astype(str).to_numpy(), strict=True):
            for column, value in zip(columns.pixel_indices, values.tolist(), strict=True):
                if not is_number(value):
                    what = f": {shorten(value)} is not a number" if value.strip() else " is empty or missing"
                    raise InputError(
                        f"{self._place(row)}: {columns.describe(column)}{what}; if the column has no pixels, "
                        f"ignore it with --drop-column {columns.option(column)}"
                    )

    def _labels(self, frame: Any) -> np.ndarray:
        columns = self.layout.columns
        if self.layout.one_hot:
            return self._one_hot(frame[list(self.layout.one_hot)])
        return self._texts(frame[columns.label or 0], self.layout.text_label)

    def _one_hot(self, frame: Any) -> np.ndarray:
        values = frame.to_numpy()
        if values.dtype.kind not in "iuf":
            raise InputError(f"{self.path}: its one-hot columns are not all numbers; check --one-hot-labels")
        if (row := first_not_one_hot(values)) is not None:
            raise InputError(f"{self._place(frame.index[row])}: its one-hot label is not a single 1 among zeros")
        return values.argmax(axis=1)

    def _texts(self, column: Any, are_names: bool) -> np.ndarray:
        """A column of labels or ids: object array of str [n], or int64 [n]."""
        texts = column.str.strip().to_numpy(object)
        values = texts if are_names else np.array([whole_number(text) for text in texts.tolist()], np.int64)
        invalid = texts == "" if are_names else values < 0
        if invalid.any():
            row = int(np.argmax(invalid))
            raise self._text_error(column.index[row], column.name, texts[row])
        return values

    def _text_error(self, row: int, column: int, text: str) -> InputError:
        columns = self.layout.columns
        role, option = "label" if column == columns.label else "id", columns.option(column)
        what = " is empty"
        if text:
            what = f": {shorten(text)} is not a plain non-negative integer, as the {role} must be"
            what += f"; if {role}s are names, give --text-column {option}"
        return InputError(f"{self._place(row)}: {columns.describe(column)}{what}")

    def _place(self, row: int) -> str:
        """Row `row` of the file by its line."""
        with open_text(self.path) as (stream, _), io.BufferedReader(stream) as buffered:
            for number, line in enumerate(buffered, 1):
                if number > self.layout.skip and line.strip():
                    if not row:
                        return f"{self.path}, line {number}"
                    row -= 1
        raise changed_error(self.path)


def _plain_numbers(cells: Any) -> np.ndarray | None:
    """uint8 [n, pixels] of cells with whole numbers in 0..255, a blank between two; None if there are others."""
    columns = Columns(cells.iloc[0].count(" ") + 1)
    text = "\n".join(cells)
    if "," in text or text.count("\n") != len(cells) - 1:
        return None
    rows = parse_fast(text.replace(" ", ",").encode() + b"\n", columns)
    return None if rows is None else rows.images


def _numbers(cell: str) -> np.ndarray:
    """float64 [pixels] of a cell; none if a value is not a number."""
    try:  # NumPy stops at such a value, with a warning that will be an error
        values = np.fromstring(f"{cell.translate(CELL_MARKS)} {_END:g}", np.float64, sep=" ")
    except ValueError:
        return np.empty(0)
    return values[:-1] if len(values) and values[-1] == _END else np.empty(0)
