import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.convert.csv.columns import Columns
from pipeline.convert.csv.parser import parse_fast, parse_floats, parse_lines
from pipeline.convert.csv.strict import LineError, parse_strict

LABEL_FIRST = Columns(5, label=0, names=("label", "p0", "p1", "p2", "p3"))


def text_of(table):
    return "".join(",".join(map(str, row)) + "\n" for row in table).encode()


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@st.composite
def tables(draw):
    """Random columns and a table that fits them, with labels and ids as long as they may be."""
    count = draw(st.integers(3, 7))
    label, identity = draw(st.permutations(range(count)))[:2]
    columns = Columns(count, draw(st.sampled_from([None, label])), draw(st.sampled_from([None, identity])))
    longest = st.integers(0, 10**18 - 1) | st.integers(0, 300)
    cells = [longest if k in (columns.label, columns.id) else st.integers(0, 255) for k in range(count)]
    return columns, draw(st.lists(st.tuples(*cells), min_size=1, max_size=12))


@given(tables(), st.integers(1, 60))
def test_both_paths_and_any_piece_size_give_the_table(case, piece_bytes):
    columns, table = case
    data = text_of(table)
    fast, strict = parse_fast(data, columns), parse_strict(data, columns)
    assert_same(fast, strict)
    assert_same(parse_lines(data, columns, piece_bytes), strict)
    pixels = [k for k in range(columns.count) if k not in (columns.label, columns.id)]
    np.testing.assert_array_equal(strict.images, np.array(table, object)[:, pixels].astype(np.uint8))
    if columns.label is not None:
        assert strict.labels.tolist() == [row[columns.label] for row in table]


@given(st.text(alphabet="019,\n.e+- ", max_size=40))
def test_float_path_accepts_nothing_that_the_strict_one_refuses(text):
    data, columns = text.encode() + b"\n", Columns(2, label=1)
    rows = parse_floats(data, columns)
    if rows is not None:
        assert_same(rows, parse_strict(data, columns))


@given(tables())
def test_floats_are_read_as_the_whole_numbers_that_they_are(case):
    columns, table = case
    data = "".join(",".join(f" {value}.0" if value < 2**53 else str(value) for value in row) + "\n" for row in table)
    expected = parse_strict(text_of(table), columns)
    assert_same(parse_lines(data.encode(), columns), expected)
    if all(value < 2**53 for row in table for value in row):
        assert_same(parse_floats(data.encode(), columns), expected)


@given(st.text(alphabet='019,\n"- \r', max_size=40))
def test_fast_path_accepts_nothing_that_the_strict_one_refuses(text):
    data, columns = text.encode() + b"\n", Columns(2)
    fast = parse_fast(data, columns)
    if fast is not None:
        assert_same(fast, parse_strict(data, columns))


def test_every_pixel_value_is_read_in_every_column():
    for value in range(256):
        rows = parse_fast(text_of([[3, value, 0, value, 255], [4, 10, value, 99, value]]), LABEL_FIRST)
        assert rows.images.tolist() == [[value, 0, value, 255], [10, value, 99, value]]


def test_fast_path_refuses_every_larger_value():
    for value in [*range(256, 1100), 2550, 9999, 10**9, 2**64]:
        for place in range(1, 5):
            row = [7, 200, 30, 0, 255]
            row[place] = value
            assert parse_fast(text_of([[1, 2, 3, 4, 5], row]), LABEL_FIRST) is None


def test_long_labels_do_not_change_the_pixels_beside_them():
    rows = parse_fast(text_of([[123456, 1, 2, 3, 4], [999, 5, 6, 7, 8]]), LABEL_FIRST)
    assert rows.labels.tolist() == [123456, 999]
    assert rows.images.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    "line",
    [
        b"7,1,2,3,4",
        b'7,"1",2,3,"4"',
        b"0007,001,2,3,0000000004",
        b"7,1,2,3,4\r",
        b'"7",1,2,3,4',
        b"7,1,2,3," + b"0" * 5000 + b"4",
        b"7.0,1.,2.0,+3,4e0",
        b" 7,1, 2 ,3,4",
        b"7,1,2,3,0.4e+01",
        b'7.0,1,2,3.000000000000000000e+00,"4.0"',
    ],
)
def test_unusual_but_valid_lines_are_accepted(line):
    rows = parse_lines(b"1,1,1,1,1\n" + line + b"\n", LABEL_FIRST)
    assert rows.labels.tolist() == [1, 7]
    assert rows.images.tolist() == [[1, 1, 1, 1], [1, 2, 3, 4]]


def test_blank_lines_are_skipped():
    rows = parse_lines(b"\n1,1,1,1,1\n  \n\r\n2,2,2,2,2\n\n", LABEL_FIRST)
    assert rows.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        (b"1,2,3,4", ["4 columns, expected 5", "'p3'"]),
        (b"1,2,3,4,5,6", ["6 columns, expected 5", "1 extra"]),
        (b"1,2,256,4,5", ["column 'p1'", "'256' is outside 0..255"]),
        (b"1,2,3,4,1000", ["column 'p3'", "'1000'"]),
        (b"1,-2,3,4,5", ["column 'p0'", "'-2' is not a plain integer"]),
        (b"1,2,12.5,4,5", ["column 'p1'", "'12.5' is not a plain integer in 0..255"]),
        (b"6.5,2,3,4,5", ["column 'label'", "'6.5' is not a plain non-negative integer"]),
        (b"1,2,3,4,1e3", ["column 'p3'", "'1e3' is outside 0..255"]),
        (b"1,2,1 2,4,5", ["column 'p1'", "'1 2'"]),
        (b"1,2,1_0,4,5", ["column 'p1'", "'1_0'"]),
        (b"1,2,nan,4,5", ["column 'p1'", "'nan'", "--drop-column p1"]),
        (b"1,2,inf,4,5", ["column 'p1'", "'inf'"]),
        (b"1,2,0x1,4,5", ["column 'p1'", "'0x1'"]),
        (b"1,2,,4,5", ["column 'p1' is empty"]),
        (b",2,3,4,5", ["column 'label' is empty"]),
        (b"-1,2,3,4,5", ["column 'label'", "'-1'", "non-negative"]),
        (b"cat,2,3,4,5", ["column 'label'", "'cat'"]),
        (b"9223372036854775808,2,3,4,5", ["column 'label'", "not below 2**63"]),
        (b"1;2;3;4;5", ["1 columns, expected 5"]),
        (b'1,"2,3,4,5', ["quotes"]),
        (b"1,2,\xff,4,5", ["byte 0xFF", "column 2"]),
        ("1,2,٣,4,5".encode(), ["byte 0xD9", "column 2"]),
        (b"1,2\x00,3,4,5", ["NUL"]),
        (b"1,2,3,4,5\r6,7,8,9,10", ["carriage return"]),
        (b"1,2," + b"9" * 5000 + b",4,5", ["column 'p1'", "99..."]),
    ],
)
def test_invalid_line_is_reported_with_column_and_value(line, fragments):
    with pytest.raises(LineError) as caught:
        parse_lines(b"1,1,1,1,1\n1,2,3,4,5\n" + line + b"\n1,1,1,1,1\n", LABEL_FIRST, piece_bytes=12)
    assert caught.value.line == 2
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [2**63 - 1, 10**18, 0])
def test_labels_and_ids_up_to_the_largest_int64(value):
    columns = Columns(4, label=3, id=0)
    rows = parse_lines(f"{value},1,2,{value}\n".encode(), columns)
    assert rows.ids.tolist() == rows.labels.tolist() == [value]
