import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.convert.csv.columns import Columns
from pipeline.convert.csv.scan import read_labels, row_spans
from pipeline.convert.csv.strict import NOT_A_NUMBER, LineError, parse_strict


def spans(text):
    return [text[start:end] for start, end in zip(*row_spans(text.encode()), strict=True)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1,2\n3,4\n", ["1,2", "3,4"]),
        ("\n1,2\r\n\r\n3,4\n  \n\t\n", ["1,2\r", "3,4"]),
        (" " * 500 + "\n1,2\n", ["1,2"]),  # longer than any row of two columns
        ("\n\n\n", []),
        ("", []),
        (" 1,2\nx\n", [" 1,2", "x"]),  # for the parser to refuse
    ],
)
def test_blank_lines_are_not_rows(text, rows):
    assert spans(text) == rows


NUMBERS = ["0", "7", "255", '"7"', "007", str(2**63 - 1), str(2**63), "9" * 18, "6.0", "1e2", "+3 ", " 4"]
CELLS = st.sampled_from([*NUMBERS, "", "x", "-1", "2.5", '"'])
LINES = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join) | st.sampled_from(["", "  "]), max_size=6)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.integers(0, 2))
def test_labels_are_those_of_the_strict_parser(lines, newline, label):
    columns = Columns(3, label=label)
    data = "".join(line + newline for line in lines).encode()
    labels = read_labels(data, columns)
    rows = [line for line in lines if line.strip()]
    assert len(labels) == len(rows)
    for row, value in zip(rows, labels.tolist(), strict=True):
        try:
            expected = parse_strict(f"{row}\n".encode(), columns).labels.tolist()
        except LineError:
            continue  # its label is not used
        assert [value] == expected


@pytest.mark.parametrize(
    ("value", "kind"), [(9, np.int8), (200, np.int16), (40_000, np.int32), (2**32, np.int64), (2**63 - 1, np.int64)]
)
def test_labels_have_the_smallest_signed_type(value, kind):
    labels = read_labels(f"{value},1\nx,1\n".encode(), Columns(2, label=0))
    assert (labels.dtype, labels.tolist()) == (kind, [value, NOT_A_NUMBER])


def test_without_a_label_column_rows_are_counted():
    assert read_labels(b"1,2\n\n3,4\n", Columns(2)).tolist() == [NOT_A_NUMBER] * 2
