"""One file of any layout to predict or to look at: its images, and labels and ids as the file has them."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.convert.csv_reader import CsvFile
from pipeline.convert.inputs import image_shape_of, notes_of
from pipeline.convert.open_file import open_file
from pipeline.convert.pixels import Shape
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.table import TableFile
from pipeline.errors import InputError


class NamedRows(NamedTuple):
    """Rows as they are stored, except that labels are texts: those of the file, numbers without leading zeros.

    `images` are uint8 [n, pixels], `labels` an object array of str [n], `ids` int64 or an object array of str [n]; the
    last two are None if the file has none.
    """

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Table:
    """A file whose layout is known. `notes` say what was guessed, a line each."""

    image_shape: Shape
    notes: Sequence[str]
    file: CsvFile | TableFile

    @property
    def path(self) -> pathlib.Path:
        return self.file.path

    def rows(self) -> Iterator[NamedRows]:
        """All rows in order, some thousand at a time.

        Raises:
            InputError: at the first invalid row, or if there are no rows.
        """
        num_rows = 0
        for rows in self._plain_rows(self.file) if isinstance(self.file, CsvFile) else self._table_rows(self.file):
            num_rows += len(rows.images)
            yield rows
        if not num_rows:
            raise InputError(f"{self.path}: has no rows")

    def place_of(self, row: int) -> str:
        """How messages name a row, counted from 0."""
        return self.file.place_of(row)

    @staticmethod
    def _plain_rows(file: CsvFile) -> Iterator[NamedRows]:
        for images, labels, ids in file.read_blocks():
            texts = None if labels is None else np.array(list(map(str, labels.tolist())), object)
            yield NamedRows(images, texts, ids)

    @staticmethod
    def _table_rows(file: TableFile) -> Iterator[NamedRows]:
        names = file.reader.class_names
        for block in file.read(file.first_row, None):
            _, labels, ids = block.rows
            images = file.parse(block._replace(rows=block.rows._replace(labels=None))).images
            if labels is not None and labels.dtype != object:
                texts = [str(label) if names is None else names[label] for label in labels.tolist()]
                labels = np.array(texts, object)
            yield NamedRows(images, labels, ids)


def open_table(path: str | os.PathLike, options: ReadOptions = ReadOptions()) -> Table:
    """Open a file as a conversion does.

    Raises:
        InputError: the file is missing, or of a kind or layout that cannot be read.
    """
    opened = open_file(path, options)
    file = opened if isinstance(opened, CsvFile) else TableFile(opened, options)
    return Table(image_shape_of(file, options), notes_of(opened), file)
