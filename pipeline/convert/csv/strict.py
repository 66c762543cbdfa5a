"""Lines of a CSV one by one to arrays: whole numbers however they are written, and what is wrong with any other."""

import csv
import re
from typing import NamedTuple

import numpy as np

from pipeline.convert.csv.columns import Columns
from pipeline.errors import shorten

MAX_INTEGER = 2**63 - 1
NOT_A_NUMBER = -1  # of a label that parsing will refuse
MAX_EXACT = 2**53  # every whole number up to it is a float64
_MAX_DIGITS = len(str(MAX_INTEGER))
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Rows(NamedTuple):
    """Parsed rows: images uint8 [n, pixels]; labels and ids int64 [n], or None without such a column."""

    images: np.ndarray
    labels: np.ndarray | None
    ids: np.ndarray | None


class LineError(ValueError):
    """An invalid line; `line` counts from 0 within the text, `short`: its end is missing, as in a partial download.

    `pixel` is the column of a number that is not a pixel, though it may be one in another range.
    """

    def __init__(self, line: int, text: str, short: bool = False, pixel: int | None = None):
        super().__init__(text)
        self.line = line
        self.short = short
        self.pixel = pixel


def parse_strict(data: bytes | bytearray, columns: Columns, first_line: int = 0) -> Rows:
    """Parse lines one by one; blank ones are skipped, quoted and whole numbers accepted.

    Raises:
        LineError: at the first invalid line, counted from `first_line`.
    """
    images, labels, ids = [], [], []
    lines: list[bytes] = bytes(data).split(b"\n")[:-1]
    for number, line in enumerate(lines, first_line):
        if not line.strip():
            continue
        fields = split_line(number, line)
        if len(fields) != columns.count:
            raise LineError(number, _wrong_count(len(fields), columns), len(fields) < columns.count)
        for column, field in enumerate(fields):
            if not field.isdigit() or (len(field) > 2 and column not in (columns.label, columns.id)):
                fields[column] = _digits(number, field, column, columns)
        if columns.label is not None:
            labels.append(_integer(number, fields[columns.label], columns.label, columns))
        if columns.id is not None:
            ids.append(_integer(number, fields[columns.id], columns.id, columns))
        # The last digits suffice: those before them are zeros, or the check above refused them.
        numbers = [int(fields[k][-3:]) for k in range(columns.count) if k not in (columns.label, columns.id)]
        images.append(np.array(numbers, np.uint8))
    return Rows(
        np.stack(images) if images else np.empty((0, columns.num_pixels), np.uint8),
        None if columns.label is None else np.array(labels, np.int64),
        None if columns.id is None else np.array(ids, np.int64),
    )


def split_line(number: int, line: bytes | bytearray) -> list[str]:
    """Fields of one line without its newline.

    Raises:
        LineError: bytes that are not ASCII, a carriage return inside, or quotes that do not close.
    """
    line = line.removesuffix(b"\r")
    if b"\0" in line:
        raise LineError(number, "contains NUL bytes; is the file UTF-16? save it as plain ASCII or UTF-8")
    if b"\r" in line:
        raise LineError(number, "contains a carriage return; end lines with a newline")
    if not line.isascii():
        at = next(k for k, byte in enumerate(line) if byte > 127)
        before = line[:at].count(b",")
        raise LineError(
            number, f"byte 0x{line[at]:02X} in column {before} (counted from 0) is not ASCII; save the file as UTF-8"
        )
    text = line.decode("ascii")
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise LineError(number, f"unbalanced quotes ({error})") from error


def is_number(field: str) -> bool:
    """Whether a field is a number, whole or not."""
    return _NUMBER.fullmatch(field.strip()) is not None


def whole_digits(field: str) -> str | None:
    """The digits of a whole number such as 6, 6.0 or 2.55e+02; None if a field is not one."""
    field = field.strip(" \t")
    if field.isascii() and field.isdigit():
        return field
    if not _NUMBER.fullmatch(field):
        return None
    value = float(field)
    return str(int(value)) if 0 <= value <= MAX_EXACT and value.is_integer() else None


def whole_number(field: str) -> int:
    """A whole number below 2**63, or NOT_A_NUMBER."""
    digits = whole_digits(field)
    if digits is None:
        return NOT_A_NUMBER
    digits = digits.lstrip("0") or "0"
    # By its length first: int() refuses thousands of digits with an error of its own.
    return int(digits) if len(digits) <= _MAX_DIGITS and int(digits) <= MAX_INTEGER else NOT_A_NUMBER


def column_range(data: bytes | bytearray, column: int) -> tuple[float, float]:
    """Smallest and largest number of a column in some lines; what is not a number does not count."""
    fields = (line.split(b",")[column : column + 1] for line in bytes(data).split(b"\n"))
    texts = [field[0].decode("ascii", "replace") for field in fields if field]
    values = [float(text) for text in texts if is_number(text)]
    return min(values, default=0.0), max(values, default=0.0)


def _wrong_count(count: int, columns: Columns) -> str:
    expected = f"{columns.count} as in {'the first line' if columns.names is None else 'the header'}"
    if count < columns.count:
        return f"{count} columns, expected {expected}: missing from {columns.describe(count)} on"
    return f"{count} columns, expected {expected}: {count - columns.count} extra"


def _digits(number: int, field: str, column: int, columns: Columns) -> str:
    where = columns.describe(column)
    if not field.strip(" \t"):
        raise LineError(number, f"{where} is empty", column == columns.count - 1)
    role = "label" if column == columns.label else "id" if column == columns.id else None
    pixel = column if role is None and is_number(field) else None
    digits = whole_digits(field)
    if digits is None:
        rule = "a plain integer in 0..255" if role is None else f"a plain non-negative integer, as the {role} must be"
        hint = "" if pixel is not None else _text_advice(role, columns.option(column))
        raise LineError(number, f"{where}: {shorten(field)} is not {rule}{hint}", pixel=pixel)
    if role is None and (len(digits.lstrip("0")) > 3 or int(digits[-3:]) > 255):
        raise LineError(number, f"{where}: {shorten(field)} is outside 0..255", pixel=pixel)
    return digits


def _text_advice(role: str | None, column: str) -> str:
    if role is None:
        return f"; if the column has no pixels, ignore it with --drop-column {column}"
    return f"; if {role}s are names, give --text-column {column}"


def _integer(number: int, field: str, column: int, columns: Columns) -> int:
    value = int(field[-19:])
    if len(field.lstrip("0")) > 19 or value > MAX_INTEGER:
        raise LineError(number, f"{columns.describe(column)}: {shorten(field)} is not below 2**63")
    return value
