import bz2
import gzip
import io
import lzma
import os
import pickle

import numpy as np
import pytest

from pipeline.convert.csv import reader as csv_reader
from pipeline.convert.csv.reader import CsvFile, ReadOptions
from pipeline.errors import InputError
from tests.helpers.conversion import GOOD, PIXELS, table

PLAIN = table(20)


def read(path, **options):
    """Labels and images of all rows; by blocks from the first row on."""
    file = CsvFile(path, ReadOptions(**options))
    blocks = [file.parse(block) for block in file.read(file.first_row, None)]
    return np.concatenate([rows.labels for rows in blocks]), np.concatenate([rows.images for rows in blocks])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.csv", PLAIN.encode()),
        ("a.csv.gz", gzip.compress(PLAIN.encode())),
        ("a.csv.bz2", bz2.compress(PLAIN.encode())),
        ("crlf.csv", PLAIN.replace("\n", "\r\n").encode()),
        ("bom.csv", b"\xef\xbb\xbf" + PLAIN.encode()),
        ("bom_and_blank_lines.csv", b"\xef\xbb\xbf\r\n" + PLAIN.encode()),
        ("no_last_newline.csv", PLAIN.rstrip("\n").encode()),
        ("blank_lines.csv", ("\n \n" + PLAIN.replace("\n", f"\n{' ' * 50}\n\n")).encode()),
        ("quoted.csv", PLAIN.replace("255", '"255"').replace("label", '"label"').encode()),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
def test_every_form_of_a_file_and_any_block_size_give_the_same_rows(tmp_path, name, data, block_bytes):
    path = tmp_path / name
    path.write_bytes(data)
    labels, images = read(path, block_bytes=block_bytes)
    k = np.arange(20)
    np.testing.assert_array_equal(images, np.stack([k, k * 0, k * 0 + 7, 255 - k], axis=1))
    np.testing.assert_array_equal(labels, k % 3)


def test_without_header_the_first_line_is_a_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeff\n7,1,2,3,4\n8,5,6,7,8\n", encoding="utf-8")
    labels, images = read(path, has_header=False, label_column="0")
    assert labels.tolist() == [7, 8]
    assert images.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_long_column_names_may_make_the_header_longer_than_any_row(tmp_path):
    path = tmp_path / "a.csv"
    header = ",".join(["label", *("n" * 990 + str(k) for k in range(20))])
    path.write_text(f"{header}\n1{',2' * 20}\n")
    assert read(path, block_bytes=100)[1].tolist() == [[2] * 20]


# The first pass

ODD = "\ufeff\n\n" + "\n".join(f"{line}\n{' ' * (k % 40)}" for k, line in enumerate(table(300).split("\n")))


@pytest.mark.parametrize("text", [table(300), ODD, table(300, "id")], ids=["plain", "blank lines", "no labels"])
@pytest.mark.parametrize(("block_bytes", "scan_bytes"), [(1, 1), (50, 170), (100, 1000), (777, 1 << 20)])
def test_rows_can_be_read_from_anywhere(tmp_path, monkeypatch, text, block_bytes, scan_bytes):
    monkeypatch.setattr(csv_reader, "SCAN_BYTES", scan_bytes)
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    file = CsvFile(tmp_path / "a.csv", ReadOptions(block_bytes=block_bytes))
    first = 0
    starts = file.scan_starts()
    assert len(starts) > 1 or scan_bytes == 1 << 20
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        scan = file.scan(start, stop)
        assert scan.labels.tolist() == [
            k % 3 if file.has_labels else -1 for k in range(first, first + len(scan.labels))
        ]
        for row in range(len(scan.labels)):
            mark = [mark for mark in scan.marks if mark.row <= row][-1]
            blocks = map(file.parse, file.read(file.mark_of_row(mark, row), None))
            assert next(rows.images[0][0] for rows in blocks if len(rows.images)) == (first + row) % 256
        first += len(scan.labels)
    assert first == 300


def test_compressed_file_is_one_stretch(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_reader, "SCAN_BYTES", 10)
    (tmp_path / "a.csv").write_bytes(lzma.compress(PLAIN.encode()))
    file = CsvFile(tmp_path / "a.csv")
    assert not file.seekable
    (start,) = file.scan_starts()
    assert file.scan(start, None).labels.tolist() == [k % 3 for k in range(20)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_place_of_row_counts_header_and_blank_lines(tmp_path, pack):
    path = tmp_path / "a.csv"
    path.write_bytes(pack(f"\nlabel,{PIXELS}\n\n1,1,1,1,1\n\n\n2,2,2,2,2\n".encode()))
    file = pickle.loads(pickle.dumps(CsvFile(path, ReadOptions(block_bytes=11))))  # noqa: S301
    assert [file.place_of(row) for row in (0, 1)] == [f"{path}, line 4", f"{path}, line 7"]


# Invalid files

BAD_FILES = {
    "missing": (None, ["No such file or directory"]),
    "empty": ("", ["the file is empty"]),
    "only blank lines": ("\n\n  \n", ["the file is empty"]),
    "only an empty gzip": (gzip.compress(b""), ["the file is empty"]),
    "UTF-16": (PLAIN.encode("utf-16"), ["line 1", "UTF-16"]),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), ["line 1", "NUL"]),
    "Latin-1 header": ("étiquette,p0,p1,p2,p3\n1,2,3,4,5\n".encode("latin-1"), ["line 1", "0xE9", "column 0"]),
    "old Mac line ends": (PLAIN.replace("\n", "\r"), ["line 1", "carriage return"]),
    "wrong value late": (PLAIN + "\n1,2,3,4,999\n", ["line 23", "column 'p3'", "'999'"]),
    "earliest of two mistakes": (PLAIN + "1,x,3,4,5\n1,y\n", ["line 22", "'x'"]),
    "cut in a row": (PLAIN + "1,2,3", ["line 22", "3 columns, expected 5", "looks truncated"]),
    "cut after a comma": (PLAIN + "1,2,3,4,", ["line 22", "'p3' is empty", "looks truncated"]),
    "short row before the end": (PLAIN + "1,2\n1,2,3,4,5", ["line 22: 2 columns, expected 5 as in the header"]),
    "header taken for data": (PLAIN, ["line 1", "'label'"], {"has_header": False, "label_column": "0"}),
    "truncated gzip": (gzip.compress(PLAIN.encode())[:-20], ["corrupt gzip"]),
    "line without end": (PLAIN + "1" * 300_000, ["line 22", "longer than"], {"block_bytes": 1000}),
    "mistake before a line without end": (PLAIN + "x,2,3,4,5\n" + "1" * 300_000, ["line 22", "'x'"]),
    "header without end": ("label," * 3_000_000, ["line 1", "longer than"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("block_bytes", [50, 1 << 20])
def test_bad_file_is_one_line_that_names_the_place(tmp_path, case, block_bytes):
    data, fragments, *options = BAD_FILES[case]
    path = tmp_path / "bad.csv"
    if data is not None:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(InputError) as caught:
        read(path, **{"block_bytes": block_bytes, **(options[0] if options else {})})
    assert str(caught.value).startswith(str(path))
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
    assert ("truncated" in str(caught.value)) == ("looks truncated" in fragments)


@pytest.mark.parametrize(
    ("create", "fragment"),
    [(lambda path: path.mkdir(), "a directory; give a file"), (os.mkfifo, "not a regular file; .* store it first")],
)
def test_only_regular_files_are_read(tmp_path, create, fragment):
    create(tmp_path / "a")
    with pytest.raises(InputError, match=fragment):
        CsvFile(tmp_path / "a")


@pytest.mark.parametrize("change", ["append", "replace", "remove"])
def test_file_that_changes_while_it_is_read_is_refused(tmp_path, change):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    file = CsvFile(path, ReadOptions(block_bytes=20))
    blocks = file.read(file.first_row, None)
    next(blocks)
    if change == "append":
        with path.open("a") as stream:
            stream.write("1,1,1,1,1\n")
    else:
        path.rename(tmp_path / "old.csv")
        if change == "replace":
            path.write_text(GOOD)
    with pytest.raises(InputError, match="a.csv: (the file changed while it was read; convert again|No such file)"):
        list(blocks)


def test_long_line_ends_the_reading_with_little_of_it_kept():
    stream = io.BytesIO(b"ab\n" + b"x" * 10_000)
    blocks = csv_reader._cut_lines(stream, 0, None, 10, 50)
    short, long = blocks
    assert (short.data, short.too_long) == (b"ab\n", False)
    assert (long.offset, long.too_long, len(long.data) < 100) == (3, True, True)
    assert stream.tell() < 100
