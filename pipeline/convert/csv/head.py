"""The first line of a text table and its first row, divided by the separator that they show or the options give."""

import csv
import io
import pathlib
import re
from typing import NamedTuple

from pipeline.convert.compressed import open_text
from pipeline.convert.read_options import BLANKS, ReadOptions
from pipeline.errors import InputError

_MAX_LINE_BYTES = 16 << 20
_BOM = "\ufeff"
SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "'|'", BLANKS: "blanks"}
_OTHER_SEPARATORS = re.compile(r"[^\w\s.+'\"()\[\]-]")


class Head(NamedTuple):
    """The first line that is not blank, named `where`, and the first row, if there is one as long, named `row_where`.

    `skip` lines come before the first row; `separator` is a character or BLANKS. `altered`: the fields are not
    quite those of the line. `ends_empty`: a separator ends the row, so the last field is none.
    """

    where: str
    separator: str
    skip: int
    fields: list[str]
    row: list[str] | None
    row_where: str
    altered: bool
    ends_empty: bool


def read_head(path: pathlib.Path, options: ReadOptions) -> Head | None:
    """The beginning of a file; None if it is empty, or no UTF-8 text whose first lines can be split."""
    lines = _first_lines(path)
    if not lines:
        return None
    number, first = lines[0]
    separator = options.separates_by or _detect(first)
    try:
        fields, *rows = [_split(line, separator) for _, line in lines]
    except csv.Error:
        return None
    row = (rows[0] if rows else None) if options.has_header else fields
    altered = options.has_header and fields[0].startswith("#")  # as numpy.savetxt writes a header
    if altered:
        fields[0] = fields[0].lstrip("# ")
    if options.has_header and row is not None and len(row) == len(fields) + 1 and row[-1]:
        fields, altered = ["", *fields], True  # R gives their column no name
    if options.has_header and row is not None and "" in (fields[-1], row[-1]) and abs(len(row) - len(fields)) == 1:
        # A separator ends the header but no row, or every row but not the header.
        fields, altered = (fields[:-1] if len(fields) > len(row) else [*fields, ""]), True
    if row is not None and len(row) != len(fields):
        if altered:
            raise InputError(f"{path}, line {number}: a comment, or a header of too few columns; remove it")
        row = None  # reported when the row is read
    skip, row_number = (number, lines[-1][0]) if options.has_header else (number - 1, number)
    row_where = f"{path}, line {row_number}"
    ends_empty = row is not None and not row[-1].strip() and not (options.has_header and fields[-1].strip())
    return Head(f"{path}, line {number}", separator, skip, fields, row, row_where, altered, ends_empty)


def check_separator(head: Head, options: ReadOptions) -> None:
    """Refuse a first line that is not divided, although another separator divides it."""
    line = head.fields[0]
    found = _detect(line)
    if options.separator is not None and len(_split(line, found)) > 1:
        raise InputError(f"{head.where}: values are separated by {SEPARATOR_NAMES[found]}; omit --separator")
    marks = [mark for mark in _OTHER_SEPARATORS.findall(line) if head.row is not None and mark in head.row[0]]
    if options.separator is None and marks:
        raise InputError(f"{head.where}: values seem to be separated by {marks[0]!r}; give --separator '{marks[0]}'")


def _first_lines(path: pathlib.Path) -> list[tuple[int, str]]:
    """The first two lines that are not blank, with their numbers from 1; none if they are not UTF-8 text."""
    lines: list[tuple[int, str]] = []
    with open_text(path) as (stream, _), io.BufferedReader(stream) as buffered:
        number = size = 0
        while len(lines) < 2 and (data := buffered.readline(_MAX_LINE_BYTES)):
            number, size = number + 1, size + len(data)
            try:
                line = data.decode("utf-8").removeprefix(_BOM).rstrip("\r\n")
            except UnicodeDecodeError:
                return []
            if "\0" in line or "\r" in line or size >= _MAX_LINE_BYTES:
                return []
            if line.strip():
                lines.append((number, line))
    return lines


def _detect(line: str) -> str:
    if "," in line:
        return ","
    character = next((mark for mark in ";\t|" if mark in line), None)
    return character or (BLANKS if len(line.split()) > 1 else ",")


def _split(line: str, separator: str) -> list[str]:
    if separator == BLANKS:
        line, separator = line.replace("\t", " ").strip(), " "
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
