import gzip
import hashlib
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pipeline.convert.csv_source import CsvSource, ReadOptions
from pipeline.convert.lines import cut_lines

from pipeline.convert import compressed
from pipeline.errors import InputError

HEADER = "label,p0,p1,p2,p3\n"
PLAIN = HEADER + "".join(f"{k % 3},{k},{k + 1},0,255\n" for k in range(20))


def read(path, **options):
    source = CsvSource(path, ReadOptions(**options))
    with ThreadPoolExecutor(2) as pool:
        blocks = list(source.read_rows(pool))
    return source, np.concatenate([rows.images for rows in blocks]), np.concatenate([rows.labels for rows in blocks])


def zipped(members, method=zipfile.ZIP_DEFLATED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.csv", PLAIN.encode()),
        ("a.csv.gz", gzip.compress(PLAIN.encode())),
        ("two_members.gz", gzip.compress(PLAIN[:50].encode()) + gzip.compress(PLAIN[50:].encode())),
        ("a.zip", zipped({"readme.txt": "hello", "inner/a.csv": PLAIN, "__MACOSX/a.csv": "junk"})),
        ("crlf.csv", PLAIN.replace("\n", "\r\n").encode()),
        ("bom.csv", b"\xef\xbb\xbf" + PLAIN.encode()),
        ("no_last_newline.csv", PLAIN.rstrip("\n").encode()),
        ("blank_lines.csv", ("\n \n" + PLAIN.replace("\n", "\n\n")).encode()),
        ("quoted.csv", PLAIN.replace("255", '"255"').replace("label", '"label"').encode()),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
def test_every_form_of_a_file_and_any_block_size_give_the_same_rows(tmp_path, name, data, block_bytes):
    path = tmp_path / name
    path.write_bytes(data)
    source, images, labels = read(path, block_bytes=block_bytes)
    k = np.arange(20)
    np.testing.assert_array_equal(images, np.stack([k, k + 1, k * 0, k * 0 + 255], axis=1))
    np.testing.assert_array_equal(labels, k % 3)
    assert source.sha256 == hashlib.sha256(data).hexdigest()
    assert source.num_bytes == source.bytes_read == len(data)


def test_without_a_header_the_first_line_is_a_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n7,1,2,3,4\n8,5,6,7,8\n")
    _, images, labels = read(path, has_header=False, label_column="0")
    assert labels.tolist() == [7, 8]
    assert images.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_long_column_names_may_make_the_header_longer_than_any_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label," + ",".join("n" * 990 + str(k) for k in range(20)) + "\n")
    with path.open("a") as file:
        file.write("1" + ",2" * 20 + "\n")
    assert read(path, block_bytes=100)[1].tolist() == [[2] * 20]


def test_line_of_row_counts_header_and_blank_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n" + HEADER + "1,1,1,1,1\n\n2,2,2,2,2\n")
    source = CsvSource(path)
    assert [source.line_of_row(0), source.line_of_row(1)] == [3, 5]


SOUND_ZIP = zipped({"a.csv": PLAIN})
PLACE_OF_DIRECTORY = SOUND_ZIP.index(b"PK\x01\x02")
CUT_ZIP = SOUND_ZIP[: PLACE_OF_DIRECTORY - 1] + SOUND_ZIP[PLACE_OF_DIRECTORY:]
BAD_FILES = {
    "missing": (None, ["no such file"]),
    "empty": (b"", ["the file is empty"]),
    "only blank lines": (b"\n\n  \n", ["the file is empty"]),
    "header alone": (HEADER.encode(), ["a header alone"]),
    "UTF-16": (PLAIN.encode("utf-16"), ["line 1", "UTF-16"]),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), ["line 1", "NUL"]),
    "Latin-1 header": ("étiquette,p0,p1,p2,p3\n1,2,3,4,5\n".encode("latin-1"), ["line 1", "0xE9", "column 0"]),
    "old Mac line ends": (PLAIN.replace("\n", "\r").encode(), ["line 1", "carriage return"]),
    "wrong value late": (PLAIN.encode() + b"\n1,2,3,4,999\n", ["line 23", "column 'p3'", "'999'"]),
    "earliest of two mistakes": (HEADER.encode() + b"1,2,3,4,5\n1,x,3,4,5\n1,y\n", ["line 3", "'x'"]),
    "cut in a row": (PLAIN.encode() + b"1,2,3", ["line 22", "3 columns, expected 5", "looks truncated"]),
    "cut after a comma": (PLAIN.encode() + b"1,2,3,4,", ["line 22", "'p3' is empty", "looks truncated"]),
    "short row before the end": (HEADER.encode() + b"1,2\n1,2,3,4,5", ["line 2", "2 columns"]),
    "header taken for data": (PLAIN.encode(), ["line 1", "'label'"], {"has_header": False, "label_column": "0"}),
    "cut gzip": (gzip.compress(PLAIN.encode())[:-20], ["damaged gzip"]),
    "damaged gzip": (gzip.compress(PLAIN.encode())[:-8] + b"12345678", ["damaged gzip"]),
    "cut zip": (zipped({"a.csv": PLAIN})[:-30], ["damaged zip"]),
    "zip cut one byte before its directory": (CUT_ZIP, ["damaged zip"]),
    "zip of two": (zipped({"a.csv": PLAIN, "b.csv": PLAIN}), ["exactly one CSV", "'a.csv', 'b.csv'"]),
    "zip of none": (zipped({"a.txt": PLAIN}), ["exactly one CSV", "none"]),
    "zip with bzip2": (zipped({"a.csv": PLAIN}, zipfile.ZIP_BZIP2), ["not read", "zip it with deflate"]),
    "a line without end": (HEADER.encode() + b"1" * 300_000, ["line 2", "longer than"], {"block_bytes": 1000}),
    "a header without end": (b"label," * 3_000_000, ["line 1", "longer than"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("block_bytes", [50, 1 << 20])
def test_a_bad_file_is_one_line_that_names_the_place(tmp_path, case, block_bytes):
    data, fragments, *options = BAD_FILES[case]
    path = tmp_path / "bad.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(path, **{"block_bytes": block_bytes, **(options[0] if options else {})})
    assert str(caught.value).startswith(str(path))
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value


ROWS = HEADER + "0,0,0,0,0\n" * 300_000


@pytest.mark.parametrize(
    "data",
    [gzip.compress(ROWS.encode()), zipped({"a.csv": ROWS}), gzip.compress(HEADER.encode() + b"\n" * 3_000_000)],
    ids=["gzip of rows", "zip of rows", "gzip of blank lines"],
)
def test_a_bomb_stops_at_a_limit(tmp_path, monkeypatch, data):
    path = tmp_path / "bomb.csv"
    path.write_bytes(data)
    monkeypatch.setattr(compressed, "_FREE_BYTES", 1 << 20)
    with pytest.raises(InputError, match="bomb.csv: unpacks to more than 200 times its size, as no CSV of images does"):
        read(path)


def test_a_small_file_may_unpack_to_many_times_its_size(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(ROWS.encode()))
    assert path.stat().st_size * 200 < len(ROWS)
    assert len(read(path)[1]) == 300_000


def test_a_directory_is_no_csv(tmp_path):
    with pytest.raises(InputError, match="a directory; give a CSV file"):
        CsvSource(tmp_path)


def test_a_short_row_before_the_end_does_not_look_truncated(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "1,2\n1,2,3,4,5")
    with pytest.raises(InputError) as caught:
        read(path)
    assert "truncated" not in str(caught.value)


def test_a_line_over_the_limit_ends_the_reading_with_little_of_it_kept():
    stream = io.BytesIO(b"ab\n" + b"x" * 10_000)
    blocks = list(cut_lines(stream, block_bytes=10, line_limit=50))
    assert blocks[0].data == b"ab\n"
    assert "longer than 50 bytes" in blocks[1].problem
    assert stream.tell() < 100
