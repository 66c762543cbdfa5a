"""What the converter asks of a kind of source file: count its rows once, then read any run of them."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from pipeline.convert.csv_parser import Rows
from pipeline.errors import InputError
from pipeline.format.manifest import Source


class Mark(NamedTuple):
    """A place between two rows: the byte of the text and the row that start there, from 0."""

    offset: int
    row: int


class Scan(NamedTuple):
    """What the first pass found in one stretch of a file, rows counted from its start.

    `marks` are places to start reading from; `labels` are the labels, integer arrays in turn (-1 for one that parsing
    will refuse), or None without a label column; `digest` is the SHA-256 of the text.
    """

    marks: tuple[Mark, ...]
    num_rows: int
    labels: tuple[np.ndarray, ...] | None
    digest: bytes


class SourceFile(Protocol):
    """A file of images, one after another. `seekable`: reading may start at any mark, not only at the first."""

    path: pathlib.Path
    num_bytes: int
    seekable: bool
    first_row: Mark

    @property
    def has_labels(self) -> bool: ...
    @property
    def has_ids(self) -> bool: ...

    def scan_starts(self) -> list[int]:
        """Offsets at which the stretches for `scan` start."""

    def scan(self, start: int, stop: int | None) -> Scan:
        """The first pass over one stretch."""

    def mark_of_row(self, mark: Mark, row: int) -> Mark:
        """Where a row starts, given a mark at most one block before it."""

    def read(self, start: Mark, stop: int | None) -> Iterator[Any]:
        """Unparsed blocks from a mark on, in order."""

    def parse(self, block: Any) -> Rows:
        """The rows of a block."""

    def place_of(self, block: Any, row: int) -> str:
        """How messages name a row of a block."""

    def empty_error(self) -> InputError:
        """What to report of a file without rows."""

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source | None:
        """What the manifest keeps of the file, or None if it cannot be rebuilt from it."""

    def check_unchanged(self) -> None:
        """Raise InputError if the file is not the one that was opened."""
