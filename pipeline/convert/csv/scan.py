"""The first pass over a CSV's text: where its rows start and what their labels are, without parsing pixels."""

import numpy as np

from pipeline.convert.csv.columns import Columns
from pipeline.convert.csv.parser import MAX_FAST_DIGITS
from pipeline.convert.csv.strict import NOT_A_NUMBER, LineError, split_line, whole_number

_COMMA, _NEWLINE, _RETURN = b",\n\r"
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[list(b" \t\n\r\x0b\x0c")] = True


def row_spans(data: bytes | bytearray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end (its newline) of each row in whole lines of text, int64 [rows] each; blank lines are not rows."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    if not _IS_SPACE[text[starts]].any():
        return starts, ends
    printed = np.concatenate([[0], np.cumsum(~_IS_SPACE[text])])
    rows = printed[ends] > printed[starts]
    return starts[rows], ends[rows]


def read_labels(data: bytes | bytearray, columns: Columns) -> np.ndarray:
    """Labels of the rows in whole lines of text, integers [rows], as `csv_strict.whole_number` reads them.

    Their type is the smallest that holds them, since the plan keeps all labels in memory; signed, since NumPy joins
    uint64 and any signed type to float64.
    """
    starts, ends = row_spans(data)
    if columns.label is None:
        return np.full(len(starts), NOT_A_NUMBER, np.int8)
    text = np.frombuffer(data, np.uint8)
    places, certain = _label_places(text, starts, ends, columns)
    labels, width = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    # A digit of every label at a time: as many steps as the longest label has digits, not as there are rows.
    inside = certain.copy()
    while inside.any():
        digit = text[np.minimum(places + width, len(text) - 1)] - np.uint8(ord("0"))
        inside &= (digit < 10) & (width <= MAX_FAST_DIGITS)
        labels = np.where(inside, labels * 10 + digit, labels)
        width += inside
    stops = text[np.minimum(places + width, len(text) - 1)]
    certain &= (width > 0) & (width <= MAX_FAST_DIGITS) & np.isin(stops, (_COMMA, _NEWLINE, _RETURN))
    for row in np.flatnonzero(~certain).tolist():  # quoted, long, a float or wrong: as the strict parser reads it
        labels[row] = _strict_label(data[starts[row] : ends[row]], columns.label)
    longest = int(labels.max(initial=0))
    return labels.astype(
        next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if longest <= np.iinfo(kind).max)
    )


def _label_places(
    text: np.ndarray, starts: np.ndarray, ends: np.ndarray, columns: Columns
) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's label begins, int64 [rows], and whether counting commas is enough to know, bool [rows]."""
    if not columns.label:
        return starts, np.ones(len(starts), bool)
    commas = np.flatnonzero(text == _COMMA)
    first = np.searchsorted(commas, starts)
    certain = np.searchsorted(commas, ends) - first == columns.count - 1
    before = np.where(certain, first + columns.label - 1, 0)
    return (commas[before] if len(commas) else before) + 1, certain


def _split_simply(line: bytes | bytearray, column: int) -> list[str]:
    return bytes(line).removesuffix(b"\r").decode("ascii").split(",", column + 1)


def _strict_label(line: bytes | bytearray, column: int) -> int:
    try:
        # Without quotes only the fields up to the label are split, as every row of floats comes here.
        fields = split_line(0, line) if b'"' in line else _split_simply(line, column)
        return whole_number(fields[column])
    except (LineError, IndexError, UnicodeDecodeError):
        return NOT_A_NUMBER
