"""CSV files as they lie on disk: plain, .gz or .zip, read in blocks of whole lines, parsed by threads but in order."""

import collections
import dataclasses
import hashlib
import itertools
import os
import pathlib
import stat
from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np

from pipeline.convert.columns import Columns, find_columns
from pipeline.convert.compressed import opened
from pipeline.convert.csv_parser import LineError, Rows, parse_lines, split_line
from pipeline.convert.lines import Block, cut_lines, sample_of
from pipeline.convert.position import Position, Start, sha256_of, skip_text
from pipeline.errors import InputError
from pipeline.format.manifest import Source
from pipeline.format.records import UNLABELLED

BLOCK_BYTES = 2 << 20  # larger ones cost memory and gain nothing
NUM_THREADS = 2
_BLOCKS_AHEAD = 4  # parsed or waiting, beyond the one in use: enough to keep the threads busy
_MAX_HEADER_BYTES = 16 << 20
_BYTES_PER_FIELD = 8  # "255", two quotes, a separator, and some room
_LINE_MARGIN_BYTES = 4096
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How a CSV is read; the first three are those of `columns.find_columns`. `block_bytes` is read at a time."""

    has_header: bool = True
    label_column: str | None = None
    id_column: str | None = None
    block_bytes: int = BLOCK_BYTES


class CsvSource:
    """One CSV whose first line has been read, so its columns are known; `read_rows` reads the rest.

    Raises:
        InputError: the file is missing, no regular file, empty, damaged, or its first line is wrong.
    """

    def __init__(self, path: str | os.PathLike, options: ReadOptions = ReadOptions()):
        self.path = pathlib.Path(path)
        self.options = options
        self._status = _status_of(self.path)
        self.num_bytes = self._status.st_size
        self.bytes_read = 0
        self.offset = 0  # bytes of text up to the end of the rows read last
        self.sha256 = ""  # of the bytes on disk; known once all rows have been read
        self._first_line, line = self._read_first_line()
        self._first_line_bytes = len(line)
        try:
            fields = split_line(0, line)
        except LineError as error:
            raise InputError(f"{self.first_line}: {error}") from error
        if len(fields) == 1 and (separator := next((mark for mark in ";\t|" if mark in fields[0]), None)):
            raise InputError(f"{self.first_line}: values are separated by {separator!r}; separate them by commas")
        self.columns: Columns = find_columns(
            self.first_line, fields, options.has_header, options.label_column, options.id_column
        )

    @property
    def first_line(self) -> str:
        """How messages call the first line that is not blank."""
        return f"{self.path}, line {self._first_line + 1}"

    def read_rows(self, pool: Executor, start: Start | None = None) -> Iterator[Rows]:
        """Rows in the order of the file, parsed ahead by `pool`; from the first, or from `start` on.

        Raises:
            InputError: at the first line that is wrong, where there are no rows, or if the file changes meanwhile.
        """
        line, num_rows = self._first_line + 1 if self.options.has_header else 0, 0
        blocks = self._blocks(line, start)
        if start is not None:
            line, num_rows, self.offset = start.position.num_lines, start.position.num_rows, start.position.offset
        self._last, self._finished, self._packed_sha256 = (None, line, num_rows), False, ""
        pending: collections.deque = collections.deque()
        try:
            for block in itertools.chain(blocks, [None]):
                if block is not None:
                    pending.append((block, pool.submit(_parse, block, self.columns)))
                while pending and (block is None or len(pending) > _BLOCKS_AHEAD):
                    parsed, future = pending.popleft()
                    try:
                        rows = future.result()
                    except LineError as error:
                        self._check_unchanged()  # then that is what is wrong, and not the line
                        raise self._located(error, line, parsed) from error
                    line += rows.num_lines
                    num_rows += len(rows.images)
                    self.offset = parsed.end
                    self._last = (parsed, line, num_rows)
                    yield rows
        finally:
            for _, future in pending:
                future.cancel()
        if num_rows == 0:
            raise InputError(f"{self.path}: a header alone, without rows")
        self._finished = True

    def position(self) -> Position:
        """The place after the rows that `read_rows` gave last; it is `finished` when it has given all."""
        block, num_lines, num_rows = self._last
        if self._finished:
            return Position(self.offset, num_lines, num_rows, self.num_bytes, self.sha256, finished=True)
        if block.digest is None:  # compressed: what was read of it says little, so all of it is pinned
            if not self._packed_sha256:
                self._packed_sha256 = sha256_of(self.path)
                self._check_unchanged()  # so that this is what is being read
            return Position(self.offset, num_lines, num_rows, self.num_bytes, self._packed_sha256)
        return Position(self.offset, num_lines, num_rows, self.offset, block.digest.hexdigest())

    def as_read(self, split: str, num_rows: int, sha256: str) -> Source:
        """What a manifest says of this file, once its rows have been read as those of a split."""
        label, identity = (self.columns.key(column) for column in (self.columns.label, self.columns.id))
        has_header = self.options.has_header
        return Source(split, self.path.name, self.num_bytes, sha256, num_rows, has_header, label, identity)

    def line_of_row(self, row: int) -> int:
        """Line (from 1) of a row (from 0). It reads the file again, so it is for messages about what is wrong."""
        line = self._first_line + 1 if self.options.has_header else 0
        for block in self._blocks(skip=line):
            for text in block.data.splitlines():
                line += 1
                row -= bool(text.strip())
                if row < 0:
                    return line
        raise ValueError(f"{self.path} has no such row")

    def _located(self, error: LineError, line: int, block: Block) -> InputError:
        cut = block.cut and error.short and error.line == block.data.count(b"\n") - 1
        hint = "; the file ends within this line, so it looks truncated" if cut else ""
        return InputError(f"{self.path}, line {line + error.line + 1}: {error}{hint}")

    def _read_first_line(self) -> tuple[int, bytes]:
        """The first line that is not blank, and its index."""
        index = 0
        with opened(self.path) as (raw, stream):
            for block in cut_lines(stream, self.options.block_bytes, _MAX_HEADER_BYTES):
                if index == 0 and block.data.startswith(_UTF16_BOMS):
                    raise InputError(f"{self.path}, line 1: encoded as UTF-16; save it as plain ASCII or UTF-8")
                if block.problem:
                    raise InputError(f"{self.path}, line {index + 1}: {block.problem}")
                for line in _lines(block.data):
                    if line.strip():
                        self.sample = sample_of(block, len(line), raw.tell(), compressed=stream is not raw)
                        return index, line
                    index += 1
        raise InputError(f"{self.path}: the file is empty")

    def _blocks(self, skip: int, start: Start | None = None) -> Iterator[Block]:
        """All blocks, without the first `skip` lines; or those from `start` on."""
        limit = max(self.columns.count * _BYTES_PER_FIELD, self._first_line_bytes) + _LINE_MARGIN_BYTES
        with opened(self.path) as (raw, stream):
            digest, offset = hashlib.sha256(), 0
            if start is not None:
                digest, offset, skip = start.digest.copy(), start.position.offset, 0
                skip_text(raw, stream, offset)
            if stream is not raw:
                digest = None
            for block in cut_lines(stream, self.options.block_bytes, limit, digest, offset):
                self.bytes_read = raw.tell()
                if skip:
                    parts = block.data.split(b"\n", skip)
                    skip -= len(parts) - 1
                    block = dataclasses.replace(block, data=parts[-1])
                if block.data or block.problem:
                    yield block
            self.bytes_read = self.num_bytes
            self.sha256 = digest.hexdigest() if digest else sha256_of(self.path)
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if _identity(_status_of(self.path)) != _identity(self._status):
            raise InputError(f"{self.path}: the file changed while it was read; convert again when it is complete")


def labels_or_unlabelled(rows: Rows) -> np.ndarray:
    """int64 [n]: the labels, or UNLABELLED where there is no label column."""
    return np.full(len(rows.images), UNLABELLED, np.int64) if rows.labels is None else rows.labels


def ids_or_numbers(rows: Rows, first_row: int) -> np.ndarray:
    """int64 [n]: the ids, or the rows' numbers where there is no id column."""
    return np.arange(first_row, first_row + len(rows.images)) if rows.ids is None else rows.ids


def _parse(block: Block, columns: Columns) -> Rows:
    if block.problem:
        raise LineError(0, block.problem)
    return parse_lines(block.data, columns)


def _lines(data: bytes | bytearray) -> Iterator[bytes]:
    # One at a time: only the first is wanted, and it may be long.
    start = 0
    while start < len(data):
        stop = data.index(b"\n", start)
        yield data[start:stop]
        start = stop + 1


def _status_of(path: pathlib.Path) -> os.stat_result:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a directory; give a CSV file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; it is read more than once, so store it first")
    return status


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
