"""CSV files on disk: plain or compressed, read in blocks of whole lines from any row on."""

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from pipeline.convert.compressed import first_bytes, open_text
from pipeline.convert.csv.columns import Columns, find_columns
from pipeline.convert.csv.parser import parse_lines
from pipeline.convert.csv.scan import read_labels, row_spans
from pipeline.convert.csv.strict import LineError, Rows, column_range, split_line
from pipeline.convert.kinds import refuse_unreadable
from pipeline.convert.pixels import range_advice
from pipeline.convert.read_options import BLOCK_BYTES, ReadOptions
from pipeline.convert.source import Mark, Scan, changed_error, check_unchanged, identify
from pipeline.errors import InputError
from pipeline.format.manifest import Source
from pipeline.remote import REQUESTS, as_path, is_remote, read_range

# One unit of the first pass: a tenth of a second's work, so that cores share a file evenly. It is part of the format,
# since the digest of a source is that of the digests of its stretches.
SCAN_BYTES = 16 << 20
_MAX_HEADER_BYTES = 16 << 20
_BYTES_PER_FIELD = 32  # "2.550000000000000000e+02", two quotes, a separator, and some room
_LINE_MARGIN_BYTES = 4096
_UTF8_BOM, _UTF16_BOMS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


class Block(NamedTuple):
    """Whole lines of text, the first at byte `offset`.

    `cut`: the file ends without the last newline; `too_long`: the beginning of a line that is longer than any row.
    """

    data: bytes | bytearray
    offset: int
    cut: bool = False
    too_long: bool = False


class CsvFile:
    """One CSV whose first line has been read, so its columns are known. It can be sent to other processes.

    Raises:
        InputError: the file is missing, not a regular file, empty, corrupt, or its first line is invalid.
    """

    def __init__(self, path: str | os.PathLike, options: ReadOptions = ReadOptions()) -> None:
        self.path = as_path(path)
        self.options = options
        self.identity = identify(self.path)
        self.num_bytes = self.identity[2]
        self._max_line = _MAX_HEADER_BYTES
        refuse_unreadable(self.path, first_bytes(self.path))
        with open_text(self.path) as (_, self.seekable):
            offset, number, line = self._read_first_line()
        self.first_line = f"{self.path}, line {number}"  # that is not blank, as messages name it
        fields = self._split_first_line(line)
        self.columns: Columns = find_columns(
            self.first_line, fields, options.has_header, options.label_column, options.id_column
        )
        self.notes = self.columns.notes
        self.first_row = Mark(offset + (len(line) + 1 if options.has_header else 0), 0)
        self._max_line = max(self.columns.count * _BYTES_PER_FIELD, len(line)) + _LINE_MARGIN_BYTES

    @property
    def has_labels(self) -> bool:
        return self.columns.label is not None

    @property
    def has_ids(self) -> bool:
        return self.columns.id is not None

    def scan_starts(self) -> list[int]:
        """Offsets that cut the text for the first pass: the first line that starts at or after every SCAN_BYTES."""
        starts = [self.first_row.offset]
        targets = range(starts[0] + SCAN_BYTES, self.num_bytes, SCAN_BYTES) if self.seekable else ()
        with ThreadPoolExecutor(REQUESTS if is_remote(self.path) else 1) as pool:
            for start in pool.map(self._line_start, targets):
                if starts[-1] < start < self.num_bytes:
                    starts.append(start)
        return starts

    def _line_start(self, target: int) -> int:
        """The first start of a line at or after a byte; 0 if there is none within the longest line."""
        text = read_range(self.path, target - 1, self._max_line).tobytes()
        end = text.find(b"\n")
        return 0 if end < 0 else target + end

    def scan(self, start: int, stop: int | None) -> Scan:
        """Count rows and read labels of the text from `start` up to `stop` (None: its end)."""
        marks: list[Mark] = []
        labels = [np.empty(0, np.int8)]
        digest, num_rows = hashlib.sha256(), 0
        for block in self._blocks(start, stop):
            digest.update(block.data)
            marks.append(Mark(block.offset, num_rows))
            labels.append(read_labels(block.data, self.columns))
            num_rows += len(labels[-1])
        return Scan(tuple(marks), np.concatenate(labels), digest.digest())

    def read(self, start: Mark, stop: int | None) -> Iterator[Block]:
        """Blocks of whole lines from a mark up to the text's byte `stop` (None: its end).

        Raises:
            InputError: the file is corrupt or changed since it was opened.
        """
        yield from self._blocks(start.offset, stop)
        check_unchanged(self.path, self.identity)

    def parse(self, block: Block) -> Rows:
        """The rows of a block.

        Raises:
            InputError: at its first invalid line.
        """
        self._check_length(block)
        try:
            return parse_lines(block.data, self.columns)
        except LineError as error:
            check_unchanged(self.path, self.identity)  # then that is the error, and not the line
            cut = block.cut and error.short and error.line == block.data.count(b"\n") - 1
            hint = "; the file ends within this line, so it looks truncated" if cut else ""
            if error.pixel is not None:
                hint = range_advice(*column_range(block.data, error.pixel))
            number = self._line_at(block.offset) + error.line
            raise InputError(f"{self.path}, line {number}: {error}{hint}") from error

    def mark_of_row(self, mark: Mark, row: int) -> Mark:
        """Where row `row` starts, given an earlier mark."""
        return mark if row == mark.row else Mark(self._offset_of(mark.offset, row - mark.row), row)

    def place_of(self, row: int) -> str:
        """How messages name a row, from 0; the file is read again to find its line."""
        return f"{self.path}, line {self._line_at(self._offset_of(self.first_row.offset, row))}"

    def text_ids(self) -> Iterator[np.ndarray]:
        """None: ids are whole numbers."""
        return iter(())

    def as_source(self, split: str, num_rows: int, sha256: str) -> Source:
        """What a manifest keeps of this file, whose rows were read as those of a split."""
        label, identity = (self.columns.key(column) for column in (self.columns.label, self.columns.id))
        name = os.fsencode(self.path.name).decode("utf-8", "replace")  # a file name need not be text
        return Source(split, name, self.num_bytes, sha256, num_rows, self.options.has_header, label, identity)

    def _blocks(self, start: int, stop: int | None) -> Iterator[Block]:
        with open_text(self.path) as (stream, seekable):
            if seekable:
                stream.seek(start)
            else:
                _skip(stream, start)
            yield from _cut_lines(stream, start, stop, self.options.block_bytes, self._max_line)

    def _offset_of(self, start: int, row: int) -> int:
        """Where the row starts that is number `row` (from 0) of those that start at or after byte `start`."""
        for block in self._blocks(start, None):
            starts, _ = row_spans(block.data)
            if row < len(starts):
                return block.offset + int(starts[row])
            row -= len(starts)
        raise changed_error(self.path)

    def _line_at(self, offset: int) -> int:
        """Number (from 1) of the line that starts at a byte; counted only for messages, as it reads the file again."""
        before = self._blocks(0, offset) if offset else iter(())
        return 1 + sum(block.data.count(b"\n") for block in before)

    def _check_length(self, block: Block) -> None:
        if block.too_long:
            limit = f"longer than {self._max_line} bytes, more than a row of these columns can take"
            raise InputError(f"{self.path}, line {self._line_at(block.offset)}: {limit}")

    def _read_first_line(self) -> tuple[int, int, bytes]:
        """(offset, number from 1, bytes without newline) of the first line that is not blank."""
        number = 1
        for block in self._blocks(0, None):
            self._check_length(block)
            first = 0
            if block.offset == 0 and block.data.startswith(_UTF16_BOMS):
                raise InputError(f"{self.path}, line 1: encoded as UTF-16; save it as plain ASCII or UTF-8")
            if block.offset == 0 and block.data.startswith(_UTF8_BOM):
                first = len(_UTF8_BOM)
            starts, ends = row_spans(block.data[first:])
            if len(starts):
                start, end = first + int(starts[0]), first + int(ends[0])
                number += block.data.count(b"\n", 0, start)
                return block.offset + start, number, bytes(block.data[start:end])
            number += block.data.count(b"\n")
        raise InputError(f"{self.path}: the file is empty")

    def _split_first_line(self, line: bytes) -> list[str]:
        try:
            return split_line(0, line)
        except LineError as error:
            raise InputError(f"{self.first_line}: {error}") from error


def _cut_lines(stream: io.RawIOBase, offset: int, stop: int | None, block_bytes: int, max_line: int) -> Iterator[Block]:
    """Cut a stream that stands at `offset` into blocks of whole lines; a longer one ends them, so memory is bounded."""
    rest = b""
    left = None if stop is None else stop - offset
    while True:
        more = max(block_bytes, len(rest))  # so that a long line is copied a few times only
        data = bytearray(len(rest) + (more if left is None else min(more, left)))
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
        if end:
            del data[end:]
            yield Block(data, offset)
            offset += end
        if len(rest) > max_line:
            yield Block(rest + b"\n", offset, too_long=True)
            return


def _skip(stream: io.RawIOBase, num_bytes: int) -> None:
    while num_bytes:
        skipped = len(stream.read(min(num_bytes, BLOCK_BYTES)) or b"")
        if not skipped:
            return
        num_bytes -= skipped
