"""CSV files on disk: plain or compressed, read in blocks of whole lines from any row on."""

import dataclasses
import hashlib
import io
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.convert.columns import Columns, find_columns
from pipeline.convert.compressed import open_text
from pipeline.convert.csv_parser import LineError, Rows, parse_lines, split_line
from pipeline.convert.csv_scan import INVALID, read_labels, row_spans
from pipeline.convert.source import Mark, Scan
from pipeline.errors import InputError
from pipeline.format.manifest import Source

BLOCK_BYTES = 2 << 20  # larger ones cost memory and gain nothing
SCAN_BYTES = 16 << 20  # one unit of the first pass: a tenth of a second's work, so that cores share a file evenly
_MAX_HEADER_BYTES = 16 << 20
_BYTES_PER_FIELD = 8  # "255", two quotes, a separator, and some room
_LINE_MARGIN_BYTES = 4096
_UTF8_BOM, _UTF16_BOMS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How a CSV is read; the first three are those of `columns.find_columns`. The sizes change nothing in the rows."""

    has_header: bool = True
    label_column: str | None = None
    id_column: str | None = None
    block_bytes: int = BLOCK_BYTES
    scan_bytes: int = SCAN_BYTES


class Block(NamedTuple):
    """Whole lines of text, the first at byte `offset`; `cut`: the file ends without the last newline."""

    data: bytes | bytearray
    offset: int
    cut: bool = False


class CsvFile:
    """One CSV whose first line has been read, so its columns are known. It can be sent to other processes.

    Raises:
        InputError: the file is missing, not a regular file, empty, corrupt, or its first line is invalid.
    """

    def __init__(self, path: str | os.PathLike, options: ReadOptions = ReadOptions()) -> None:
        self.path = pathlib.Path(path)
        self.options = options
        self._identity = _identity_of(self.path)
        self.num_bytes = self._identity[2]
        with open_text(self.path) as (stream, self.seekable):
            offset, first_line, line = self._read_first_line(stream)
        self.first_line = f"{self.path}, line {first_line + 1}"  # that is not blank, as messages name it
        fields = self._split_first_line(line)
        self.columns: Columns = find_columns(
            self.first_line, fields, options.has_header, options.label_column, options.id_column
        )
        self.first_row = Mark(offset + (len(line) + 1 if options.has_header else 0), 0)
        self._max_line = max(self.columns.count * _BYTES_PER_FIELD, len(line)) + _LINE_MARGIN_BYTES

    @property
    def has_labels(self) -> bool:
        return self.columns.label is not None

    @property
    def has_ids(self) -> bool:
        return self.columns.id is not None

    def scan_starts(self) -> list[int]:
        """Offsets that cut the text for the first pass: the first line that starts at or after every `scan_bytes`."""
        begin = self.first_row.offset
        if not self.seekable:
            return [begin]
        starts = [begin]
        with self.path.open("rb") as file:
            for target in range(begin + self.options.scan_bytes, self.num_bytes, self.options.scan_bytes):
                file.seek(target - 1)
                line = file.readline(self._max_line)
                start = target - 1 + len(line)
                if line.endswith(b"\n") and starts[-1] < start < self.num_bytes:
                    starts.append(start)
        return starts

    def scan(self, start: int, stop: int | None) -> Scan:
        """Count rows and read labels of the text from `start` up to `stop` (None: its end)."""
        marks, labels, num_rows = [], [], 0
        digest = hashlib.sha256()
        try:
            for block in self._blocks(start, stop):
                digest.update(block.data)
                starts, ends = row_spans(block.data, self.columns)
                marks.append(Mark(block.offset, num_rows))
                if self.has_labels:
                    labels.append(read_labels(block.data, starts, ends, self.columns))
                num_rows += len(starts)
        except _LongLine:
            num_rows += 1  # reading its rows meets the same line and reports it
            labels.append(np.array([INVALID]))
        return Scan(tuple(marks), num_rows, tuple(labels) if self.has_labels else None, digest.digest())

    def read(self, start: Mark, stop: int | None) -> Iterator[Block]:
        """Blocks of whole lines from a mark up to the text's byte `stop` (None: its end).

        Raises:
            InputError: a line is too long for its columns, or the file is corrupt or changed since it was opened.
        """
        try:
            yield from self._blocks(start.offset, stop)
        except _LongLine as error:
            limit = f"longer than {self._max_line} bytes, more than a row of these columns can take"
            raise self._error_at(error.offset, limit) from error
        self.check_unchanged()

    def read_blocks(self) -> Iterator[Rows]:
        """All rows of the file in order.

        Raises:
            InputError: at the first invalid line, or if there are no rows.
        """
        num_rows = 0
        for block in self.read(self.first_row, None):
            rows = self.parse(block)
            num_rows += len(rows.images)
            yield rows
        if not num_rows:
            raise self.empty_error()

    def parse(self, block: Block) -> Rows:
        """The rows of a block.

        Raises:
            InputError: at its first invalid line.
        """
        try:
            return parse_lines(block.data, self.columns)
        except LineError as error:
            self.check_unchanged()  # then that is the error, and not the line
            cut = block.cut and error.short and error.line == block.data.count(b"\n") - 1
            hint = "; the file ends within this line, so it looks truncated" if cut else ""
            raise self._error_at(block.offset, f"{error}{hint}", error.line) from error

    def mark_of_row(self, mark: Mark, row: int) -> Mark:
        """Where row `row` of a seekable file starts, given a mark at most one block before it."""
        if row == mark.row:
            return mark
        block = next(self._blocks(mark.offset, None))
        return Mark(mark.offset + int(row_spans(block.data, self.columns)[0][row - mark.row]), row)

    def place_of(self, block: Block, row: int) -> str:
        """How messages name row `row` (from 0) of a block."""
        start = int(row_spans(block.data, self.columns)[0][row])
        return f"{self.path}, line {self._line_at(block.offset + start)}"

    def empty_error(self) -> InputError:
        return InputError(f"{self.path}: a header without rows")

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source:
        """What a manifest keeps of this file, whose rows were read as those of a split."""
        label, identity = (self.columns.key(column) for column in (self.columns.label, self.columns.id))
        return Source(split, self.path.name, self.num_bytes, sha256, num_rows, self.options.has_header, label, identity)

    def check_unchanged(self) -> None:
        """Raise InputError if the file is not the one that was opened."""
        if _identity_of(self.path) != self._identity:
            raise InputError(f"{self.path}: the file changed while it was read; convert again when it is complete")

    def _blocks(self, start: int, stop: int | None) -> Iterator[Block]:
        with open_text(self.path) as (stream, seekable):
            if seekable:
                stream.seek(start)
            else:
                _skip(stream, start)
            yield from _cut_lines(stream, start, stop, self.options.block_bytes, self._max_line)

    def _error_at(self, offset: int, text: str, lines_after: int = 0) -> InputError:
        return InputError(f"{self.path}, line {self._line_at(offset) + lines_after}: {text}")

    def _line_at(self, offset: int) -> int:
        """Number (from 1) of the line that starts at a byte; counted only for messages, as it reads the file again."""
        before = self._blocks(0, offset) if offset else iter(())
        return 1 + sum(block.data.count(b"\n") for block in before)

    def _read_first_line(self, stream: io.RawIOBase) -> tuple[int, int, bytes]:
        """(offset, index, bytes without newline) of the first line that is not blank."""
        index = 0
        try:
            for block in _cut_lines(stream, 0, None, self.options.block_bytes, _MAX_HEADER_BYTES):
                data, offset = block.data, 0
                if block.offset == 0 and data.startswith(_UTF16_BOMS):
                    raise InputError(f"{self.path}, line 1: encoded as UTF-16; save it as plain ASCII or UTF-8")
                if block.offset == 0 and data.startswith(_UTF8_BOM):
                    offset = len(_UTF8_BOM)
                while offset < len(data):  # one line at a time: only the first is needed, and it may be long
                    stop = data.index(b"\n", offset)
                    if data[offset:stop].strip():
                        return block.offset + offset, index, bytes(data[offset:stop])
                    offset, index = stop + 1, index + 1
        except _LongLine as error:
            limit = f"longer than {_MAX_HEADER_BYTES} bytes, more than a row of these columns can take"
            raise InputError(f"{self.path}, line {index + 1}: {limit}") from error
        raise InputError(f"{self.path}: the file is empty")

    def _split_first_line(self, line: bytes) -> list[str]:
        try:
            fields = split_line(0, line)
        except LineError as error:
            raise InputError(f"{self.first_line}: {error}") from error
        if len(fields) == 1 and (separator := next((mark for mark in ";\t|" if mark in fields[0]), None)):
            raise InputError(f"{self.first_line}: values are separated by {separator!r}; separate them by commas")
        return fields


class _LongLine(Exception):
    """A line is longer than its limit; it starts at byte `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def _cut_lines(stream: io.RawIOBase, offset: int, stop: int | None, block_bytes: int, max_line: int) -> Iterator[Block]:
    """Cut a stream that stands at `offset` into blocks of whole lines.

    Raises:
        _LongLine: a line is longer than `max_line` bytes; so memory stays bounded.
    """
    rest = b""
    left = None if stop is None else stop - offset
    while True:
        data = bytearray(len(rest) + (block_bytes if left is None else min(block_bytes, left)))
        data[: len(rest)] = rest
        with memoryview(data)[len(rest) :] as free:
            count = stream.readinto(free) if len(free) else 0
        size = len(rest) + count
        if left is not None:
            left -= count
        if not count:
            if size:
                yield Block(data[:size] + b"\n", offset, cut=True)
            return
        end = data.rfind(b"\n", 0, size) + 1
        rest = bytes(data[end:size])
        if len(rest) > max_line:
            raise _LongLine(offset + end)
        if end:
            del data[end:]
            yield Block(data, offset)
            offset += end


def _skip(stream: io.RawIOBase, num_bytes: int) -> None:
    buffer = bytearray(BLOCK_BYTES)
    while num_bytes:
        with memoryview(buffer)[: min(num_bytes, BLOCK_BYTES)] as free:
            count = stream.readinto(free)
        if not count:
            return
        num_bytes -= count


def _identity_of(path: pathlib.Path) -> tuple[int, ...]:
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
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
