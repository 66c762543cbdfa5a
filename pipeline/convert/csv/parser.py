"""Lines of a CSV to arrays: vectorised paths for plain digits and for floats, and a strict one for everything else.

The fast path is NumPy over the bytes of some hundred lines at a time. The value that ends at each byte is computed for
every byte at once (units + 10 * tens + 100 * hundreds, a few contiguous uint8 operations), and then the positions of
the separators pick the values that end before them. Lines it cannot parse go to the next path, at last to the strict
one, which gives the same arrays or reports exactly what is wrong. Floats are accepted if they are whole numbers.
"""

import threading

import numpy as np

from pipeline.convert.csv.columns import Columns
from pipeline.convert.csv.strict import MAX_EXACT, Rows, parse_strict

# Smaller pieces stay in a core's cache, but threads then contend for the GIL more than they work.
PIECE_BYTES = 1 << 19
MAX_FAST_DIGITS = 18  # any such number is below 2**63
_COMMA, _NEWLINE = ord(","), ord("\n")
_FLOAT_BYTES = b"0123456789.+-eE, \n"
_WORK_ROWS = 6  # arrays as long as a piece that the fast path needs at a time


def parse_lines(data: bytes | bytearray, columns: Columns, piece_bytes: int = PIECE_BYTES) -> Rows:
    """Parse whole lines, each ended by a newline.

    Raises:
        LineError: at the first invalid line.
    """
    if b"\r" in data:  # searched first, because replace() copies even if there is none
        data = data.replace(b"\r\n", b"\n")
    pieces, start = [], 0
    view = memoryview(data)
    while start < len(data):
        stop = data.rfind(b"\n", start, start + piece_bytes) + 1 or data.index(b"\n", start) + 1
        rows = parse_fast(view[start:stop], columns)
        if rows is None:
            rows = parse_floats(data[start:stop], columns)
        if rows is None:
            rows = parse_strict(data[start:stop], columns, data.count(b"\n", 0, start))
        pieces.append(rows)
        start = stop
    if len(pieces) == 1:
        return pieces[0]
    return Rows(
        np.concatenate([rows.images for rows in pieces]),
        None if columns.label is None else np.concatenate([rows.labels for rows in pieces]),
        None if columns.id is None else np.concatenate([rows.ids for rows in pieces]),
    )


class _Workspace(threading.local):
    """Memory that each thread reuses for every piece: faulting in new pages costs more than the arithmetic."""

    def __init__(self) -> None:
        self._rows = np.empty((_WORK_ROWS, 0), np.uint8)

    def rows(self, length: int) -> np.ndarray:
        """uint8 [_WORK_ROWS, length], uninitialised, valid until the thread's next call."""
        if length > self._rows.shape[1]:
            self._rows = np.empty((_WORK_ROWS, length), np.uint8)
        return self._rows[:, :length]


_workspace = _Workspace()


def parse_fast(data: bytes | bytearray | memoryview, columns: Columns) -> Rows | None:
    """Parse lines of nothing but digits, commas and newlines; None if the strict path is needed."""
    text = np.frombuffer(data, np.uint8)
    # Three bytes in front that are not digits, so that the first value has bytes before it like any other.
    work = _workspace.rows(len(text) + 3)
    digits, is_digit, flags = work[0], work[1].view(bool), work[2, 3:].view(bool)
    digits[:3] = 255
    np.subtract(text, ord("0"), out=digits[3:])
    np.less(digits, 10, out=is_digit)
    ends = np.flatnonzero(np.logical_not(is_digit[3:], out=flags))
    num_rows, left = divmod(len(ends), columns.count)
    newlines = ends[columns.count - 1 :: columns.count]
    num_commas = np.count_nonzero(np.equal(text, _COMMA, out=flags))
    if left or num_commas != len(ends) - num_rows or (text[newlines] != _NEWLINE).any():
        return None
    units = np.multiply(digits, work[1], out=digits)
    values, suspect = _values_ending_anywhere(units, is_digit, len(ends), work[2:])
    if suspect is None or (suspect.any() and _in_pixels(np.flatnonzero(suspect), ends, columns)):
        return None
    table = values.take(ends).reshape(num_rows, columns.count)
    given = [column for column in (columns.label, columns.id) if column is not None]
    numbers: dict[int | None, np.ndarray | None] = {k: _integers(units[3:], ends, columns, k) for k in given}
    if any(values is None for values in numbers.values()):
        return None
    return Rows(table[:, columns.pixels], numbers.get(columns.label), numbers.get(columns.id))


def _values_ending_anywhere(
    units: np.ndarray, is_digit: np.ndarray, num_separators: int, work: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """values uint8 [n]: the number that ends just before byte k; suspect bool [n]: it is over 255 or has four digits.

    `suspect` is None if a field is empty. `units` are the digits, 0 elsewhere; they and `is_digit` have three bytes
    in front of the n - 1 of the text. The results are views of `work`, uint8 [4, n + 2].
    """
    size = len(units) - 2
    pairs = np.logical_and(is_digit[:-1], is_digit[1:], out=work[0, :-1].view(bool))
    # A run of digits has one pair fewer than digits, and each separator ends a run unless its field is empty.
    num_digits = len(units) - 3 - num_separators
    if np.count_nonzero(pairs) != num_digits - num_separators:
        return units, None
    hundreds = np.multiply(units[:-2], pairs[1:].view(np.uint8), out=work[1, :size])
    scaled = np.multiply(hundreds, 100, out=work[2, :size])
    values = np.multiply(units[1:-1], 10, out=work[3, :size])
    values += units[2:]
    values += scaled
    # With at most two hundreds, a sum over 255 wraps below the hundreds that went into it.
    suspect = np.less(values, scaled, out=work[2, :size].view(bool))
    if hundreds.max() > 2:
        suspect |= hundreds > 2
    of_four = np.logical_and(pairs[:-2], pairs[2:], out=work[1, : size - 1].view(bool))
    np.logical_or(suspect[1:], of_four, out=suspect[1:])
    return values, suspect


def _in_pixels(positions: np.ndarray, ends: np.ndarray, columns: Columns) -> bool:
    # A value at index k of `values` ends just before byte k, so byte k - 1 belongs to that field.
    fields = np.searchsorted(ends, positions - 1) % columns.count
    return bool(((fields != _index(columns.label)) & (fields != _index(columns.id))).any())


def _index(column: int | None) -> int:
    return -1 if column is None else column


def _integers(units: np.ndarray, ends: np.ndarray, columns: Columns, column: int) -> np.ndarray | None:
    """int64 [n] of one column, digits summed from the last to the first; None if one is too long."""
    stops = ends[column :: columns.count]
    starts = np.zeros_like(stops)
    if column:
        starts[:] = ends[column - 1 :: columns.count]
        starts += 1
    else:
        starts[1:] = ends[columns.count - 1 : -1 : columns.count] + 1
    widths = stops - starts
    longest = widths.max(initial=1)
    if longest > MAX_FAST_DIGITS:
        return None
    total = units[stops - 1].astype(np.int64)  # no field is empty
    for place in range(1, longest):
        digit = units[np.maximum(stops - 1 - place, 0)].astype(np.int64)
        total += np.where(place < widths, digit, 0) * 10**place
    return total


def parse_floats(data: bytes | bytearray, columns: Columns) -> Rows | None:
    """Parse lines of whole numbers, some of which are written as floats; None if the strict path is needed."""
    # The usual ones become plain digits, which takes a tenth of the time of reading floats.
    plain = data.replace(b", ", b",").replace(b".0,", b",").replace(b".0\n", b"\n")
    if len(plain) < len(data) and (rows := parse_fast(plain, columns)) is not None:
        return rows
    values = _read_floats(data, columns.count)
    if values is None:
        return None
    pixels = values[:, columns.pixels]
    if not _are_whole(pixels, 255):
        return None
    numbers: dict[int | None, np.ndarray | None] = {}
    for column in filter(lambda column: column is not None, (columns.label, columns.id)):
        if not _are_whole(values[:, column], MAX_EXACT - 1):
            return None
        numbers[column] = values[:, column].astype(np.int64)
    return Rows(pixels.astype(np.uint8), numbers.get(columns.label), numbers.get(columns.id))


def _read_floats(data: bytes | bytearray, num_columns: int) -> np.ndarray | None:
    """float64 [rows, columns]; None if a value is not a number, or a line has more or fewer."""
    text = np.frombuffer(data, np.uint8)
    marks = text[(text == _COMMA) | (text == _NEWLINE)]
    num_rows, left = divmod(len(marks), num_columns)
    ends = marks[num_columns - 1 :: num_columns]
    unlike_rows = left or np.count_nonzero(marks == _NEWLINE) != num_rows or (ends != _NEWLINE).any()
    if unlike_rows or data.translate(None, _FLOAT_BYTES):
        return None
    try:  # NumPy stops at a value that is not a number, or behind "0" of "0x", with a warning that will be an error
        values = np.fromstring(bytes(data).replace(b"\n", b",") + b"0", np.float64, sep=" , ")
    except ValueError:
        return None
    return values[:-1].reshape(num_rows, num_columns) if len(values) == len(marks) + 1 else None


def _are_whole(values: np.ndarray, largest: int) -> bool:
    return bool(((values >= 0) & (values <= largest) & (values == np.floor(values))).all())
