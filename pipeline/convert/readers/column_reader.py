"""What readers have in common whose labels and ids are columns, or features, by name."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.convert.table import RawRows, Reader


class Block(NamedTuple):
    """Some rows, in whatever form their reader gives, the first of which is row `start` of the file."""

    start: int
    rows: Any


class ColumnReader(Reader):
    """A reader, given how a block of rows is read and what is in it.

    `_label` and `_id` are the names of their columns, None if there are none; `_images`: of all that hold the pixels.
    """

    _label: str | None = None
    _id: str | None = None
    _images: Sequence[str] = ()

    @property
    def has_labels(self) -> bool:
        return self._label is not None

    @property
    def has_ids(self) -> bool:
        return self._id is not None

    def blocks(self) -> Iterator[RawRows]:
        """All rows."""
        for block in self._numbered(*self._images, self._label, self._id):
            labels, ids = (None if name is None else self._column(block, name) for name in (self._label, self._id))
            yield RawRows(self._values(block), labels, ids)

    def labels(self) -> Iterator[np.ndarray]:
        """The labels, of which no image is decoded, or -1 for each row."""
        if self._label is None:
            yield np.full(self._num_rows(), -1, np.int64)
        else:
            yield from self._column_blocks(self._label)

    def ids(self) -> Iterator[np.ndarray]:
        """The ids, of which no image is decoded, of a file that has them."""
        if self._id is not None:
            yield from self._column_blocks(self._id)

    def _drop_hidden_labels(self) -> None:
        """Count labels that are all -1, as published test splits have them, as none."""
        if self._label is not None and all(bool((block == -1).all()) for block in self.labels()):
            self._label, self.class_names = None, None

    def _column_blocks(self, name: str) -> Iterator[np.ndarray]:
        for block in self._numbered(name):
            yield self._column(block, name)

    def _numbered(self, *names: str | None) -> Iterator[Block]:
        start = 0
        for rows in self._read([name for name in names if name is not None]):
            yield Block(start, rows)
            start += len(rows)

    def _num_rows(self) -> int:
        raise NotImplementedError

    def _read(self, names: list[str]) -> Iterator[Any]:
        """All rows in blocks, whose length is the number of rows, with at least these columns."""
        raise NotImplementedError

    def _column(self, block: Block, name: str) -> np.ndarray:
        """Labels or ids of a block: int64 [n], or object [n] of str."""
        raise NotImplementedError

    def _values(self, block: Block) -> np.ndarray:
        """The images of a block, as those of `RawRows`."""
        raise NotImplementedError
