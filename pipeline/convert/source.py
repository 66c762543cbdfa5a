"""What the converter needs from a kind of source file: count its rows once, then read any run of them."""

import os
import pathlib
import stat
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

    `marks` are places to start reading from; `labels` are signed integers [rows], -1 for one that is absent or that
    parsing will refuse; `digest` is the SHA-256 of the text.
    """

    marks: tuple[Mark, ...]
    labels: np.ndarray
    digest: bytes


class SourceFile(Protocol):
    """A file of images, one after another. `seekable`: reading may start at any row, not only at the first."""

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
        """Where a row starts, given an earlier mark."""

    def read(self, start: Mark, stop: int | None) -> Iterator[Any]:
        """Unparsed blocks from a mark on, in order."""

    def parse(self, block: Any) -> Rows:
        """The rows of a block."""

    def place_of(self, row: int) -> str:
        """How messages name a row of the file."""

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source | None:
        """What the manifest keeps of the file, or None if a data set cannot be rebuilt from it."""


class FileIdentity:
    """Detects that a file was changed or replaced since this was created.

    Raises:
        InputError: the file is missing, or not a regular file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._status = _status_of(path)
        self.num_bytes, self.inode = self._status.st_size, (self._status.st_dev, self._status.st_ino)

    def check(self) -> None:
        """Raise InputError if the file changed."""
        now, before = _status_of(self._path), self._status
        # The inode too: a file moved into its place may have the same size and time.
        if not os.path.samestat(now, before) or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise changed_error(self._path)


def changed_error(path: pathlib.Path) -> InputError:
    return InputError(f"{path}: the file changed while it was read; convert again when it is complete")


def _status_of(path: pathlib.Path) -> os.stat_result:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a directory; give a file")
    # A pipe such as <(zcat file) gives its bytes once; the two passes need them twice.
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; it is read more than once, so store it first")
    return status
