"""The first pass over a CSV's text: where its rows start and what their labels are, without parsing pixels."""

import numpy as np

from pipeline.convert.columns import Columns
from pipeline.convert.csv_parser import MAX_INTEGER, LineError, split_line

INVALID = -1  # of a label that parsing will refuse
_COMMA, _NEWLINE = ord(","), ord("\n")
_MAX_DIGITS = 18  # any such number is below 2**63
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[list(b" \t\n\r\x0b\x0c")] = True


def row_spans(data: bytes | bytearray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Start and end (its newline) of each row in whole lines of text, int64 [rows] each; blank lines are not rows."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    short = ends - starts < 2 * columns.count - 1  # of a digit per column and the commas between them
    if not short.any():
        return starts, ends
    printed = np.concatenate([[0], np.cumsum(~_IS_SPACE[text])])
    rows = printed[ends] > printed[starts]
    return starts[rows], ends[rows]


def read_labels(data: bytes | bytearray, starts: np.ndarray, ends: np.ndarray, columns: Columns) -> np.ndarray:
    """Labels of the rows that `row_spans` gave, integers [rows]; INVALID if one is not a plain integer below 2**63.

    Their type is the smallest that holds them, since the plan keeps all labels in memory.
    """
    text = np.frombuffer(data, np.uint8)
    places, certain = _label_places(text, starts, ends, columns)
    labels, width = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    inside = certain.copy()
    while inside.any():
        digit = text[np.minimum(places + width, len(text) - 1)] - np.uint8(ord("0"))
        inside &= (digit < 10) & (width <= _MAX_DIGITS)
        labels = np.where(inside, labels * 10 + digit, labels)
        width += inside
    stops = text[np.minimum(places + width, len(text) - 1)]
    certain &= (width > 0) & (width <= _MAX_DIGITS) & ((stops == _COMMA) | (stops == _NEWLINE))
    for row in np.flatnonzero(~certain).tolist():  # quoted, long or wrong: as the strict parser reads it
        labels[row] = _strict_label(data[starts[row] : ends[row]], columns)
    smallest = np.min_scalar_type(labels.max(initial=0)) if labels.min(initial=0) >= 0 else labels.dtype
    return labels.astype(smallest)


def _label_places(
    text: np.ndarray, starts: np.ndarray, ends: np.ndarray, columns: Columns
) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's label begins, int64 [rows], and whether counting commas is enough to know, bool [rows]."""
    if columns.label is None or columns.label == 0:
        return starts, np.ones(len(starts), bool)
    commas = np.flatnonzero(text == _COMMA)
    first = np.searchsorted(commas, starts)
    certain = np.searchsorted(commas, ends) - first == columns.count - 1
    before = np.where(certain, first + columns.label - 1, 0)
    return (commas[before] if len(commas) else before) + 1, certain


def _strict_label(line: bytes | bytearray, columns: Columns) -> int:
    try:
        field = split_line(0, line)[columns.label or 0]
    except (LineError, IndexError):
        return INVALID
    digits = field.lstrip("0")
    if not (field.isascii() and field.isdigit()) or len(digits) > len(str(MAX_INTEGER)):
        return INVALID
    return int(digits or "0") if int(digits or "0") <= MAX_INTEGER else INVALID
