"""What the converter needs from a kind of source file: count its rows once, then read any run of them."""

import pathlib
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from pipeline.convert.compressed import split_member
from pipeline.convert.csv.strict import Rows
from pipeline.errors import InputError
from pipeline.format.manifest import Source
from pipeline.remote import fingerprint, is_remote


class Mark(NamedTuple):
    """A place between two rows: the byte of the text and the row that start there, from 0."""

    offset: int
    row: int


class Scan(NamedTuple):
    """What the first pass reads of one stretch of a file, rows counted from its start.

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

    def text_ids(self) -> Iterator[np.ndarray]:
        """Ids that are text, object arrays of str in the order of the rows; nothing if they are numbers or absent."""

    def place_of(self, row: int) -> str:
        """How messages name a row of the file."""

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source | None:
        """What the manifest keeps of the file, or None if a data set cannot be rebuilt from it."""


Identity = tuple[int, ...]  # device, inode, size, time of the last change


def identify(path: pathlib.Path) -> Identity:
    """What changes when a file is changed or replaced.

    Raises:
        InputError: it is missing, or not a regular file.
    """
    file = split_member(path)[0]
    if is_remote(file):
        return (0, *fingerprint(file))
    try:
        status = file.stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a directory; give a file")
    # A pipe such as <(zcat file) gives its bytes once; the two passes need them twice.
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; it is read more than once, so store it first")
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(path: pathlib.Path, identity: Identity) -> None:
    """Raise InputError if the file is not the one that had this identity."""
    if identify(path) != identity:
        raise changed_error(path)


def changed_error(path: pathlib.Path) -> InputError:
    return InputError(f"{path}: the file changed while it was read; convert again when it is complete")
