"""Whatever is wrong with the files of a conversion is one line, and nothing is left; also from worker processes."""

import gzip

import pytest

from pipeline.convert import converter
from pipeline.errors import InputError
from tests.helpers import faults
from tests.helpers.conversion import GOOD, PIXELS, convert_texts, left_over, table, table_with_ids

INVALID_FILES = {
    "duplicate id": (
        {"test": [table(5, "id", lambda k: 9 - k), table(6, "id", lambda k: k)]},
        {},
        ["test1.csv, line 7: id 5 is a duplicate, also used on ", "test0.csv, line 6"],
    ),
    "duplicate id in one file": (
        {"test": table(5, "id", lambda k: k % 4)},
        {},
        ["test0.csv, line 6: id 0 is a duplicate", "line 2"],
    ),
    "duplicate id across tasks and validation": (
        {"train": ["\n\n" + table_with_ids(300), table_with_ids(300, first=20_000) + "\n300,1,2,3,4,5\n"]},
        {"val_fraction": 0.3, "shards": 7},
        ["train1.csv, line 303: id 300 is a duplicate, also used on ", "train0.csv, line 104"],
    ),
    "duplicate id in compressed files": (
        {"train": [gzip.compress(table_with_ids(30).encode()), gzip.compress(table_with_ids(30, 87).encode())]},
        {"shards": 2},
        ["train1.csv, line 2: id 87 is a duplicate, also used on ", "train0.csv, line 31"],
    ),
    "not square": ({"train": "label,a,b\n1,2,3\n"}, {}, ["train0.csv, line 1", "not a square", "--image-shape"]),
    "other columns": ({"train": GOOD, "test": "label,p0\n1,2\n"}, {}, ["test0.csv, line 1: 1 pixel columns"]),
    "invalid value in the last split": (
        {"train": GOOD, "test": GOOD + "1,2,3,4,256\n"},
        {},
        ["test0.csv, line 12: column 'p3': '256' is outside 0..255"],
    ),
    "first of several": (
        {"train": table(300) + "1,2,3,x,5\n" + table(300)[21:] + "1,2,3,y,5\n"},
        {"shards": 9},
        ["train0.csv, line 302: column 'p2': 'x' is not a plain integer"],
    ),
    "invalid label": (
        {"train": table(300) + "-1,2,3,4,5\n" + GOOD[21:]},
        {"shards": 4, "val_fraction": 0.1},
        ["train0.csv, line 302: column 'label': '-1' is not a plain non-negative integer"],
    ),
    "line without end": ({"train": GOOD + "1" * 300_000}, {}, ["train0.csv, line 12: longer than"]),
    "truncated file": ({"train": GOOD + "1,2,3"}, {}, ["line 12: 3 columns", "looks truncated"]),
    "truncated gzip": ({"train": gzip.compress(table(9000).encode())[:-20]}, {}, ["train0.csv: corrupt gzip file"]),
    "nothing left for validation": (
        {"train": table(3)},
        {"val_fraction": 0.01, "seed": 1},
        ["no row is left for 'val'"],
    ),
    "header alone": ({"train": GOOD, "test": f"label,{PIXELS}\n"}, {}, ["test0.csv: has no rows"]),
}


@pytest.mark.parametrize("case", INVALID_FILES)
@pytest.mark.parametrize("processes", [False, True])
def test_invalid_file_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, case, processes):
    texts, options, fragments = INVALID_FILES[case]
    monkeypatch.setattr(converter, "_SMALL_BYTES", 0 if processes else 1 << 30)
    with pytest.raises(InputError) as caught:
        convert_texts(tmp_path, texts, "new/parents/data", block_bytes=1000, workers=2, **options)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
    assert "\n" not in str(caught.value)
    assert left_over(tmp_path) == []


def test_many_duplicates_are_reported_at_once(tmp_path):
    # Looking up the line of each would read the file as often.
    with pytest.raises(InputError, match=r"train1.csv, line 2: id 0 is a duplicate, also used on .*train0.csv, line 2"):
        convert_texts(tmp_path, {"train": [table_with_ids(30_000)] * 2})


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("change", ["append", "replace", "remove"])
def test_source_that_changes_during_a_conversion_is_refused(tmp_path, monkeypatch, change, processes):
    path, calls = tmp_path / "train0.csv", []

    def on_progress(*_):
        calls.append(1)
        if len(calls) > 1:
            return
        if change == "append":
            with path.open("a") as file:
                file.write("1,1,1,1,1\n")
        else:
            path.rename(tmp_path / "old.csv")
            if change == "replace":
                path.write_text(table(6000))

    monkeypatch.setattr(converter, "_SMALL_BYTES", 0 if processes else 1 << 30)
    with pytest.raises(InputError, match="(?i)train0.csv: (the file changed while it was read|no such file)"):
        convert_texts(tmp_path, {"train": table(6000)}, on_progress=on_progress, block_bytes=3000, shards=20, workers=2)
    assert left_over(tmp_path) == []


def test_compressed_source_that_is_replaced_is_refused(tmp_path):
    path = tmp_path / "train0.csv"

    def on_progress(*_):
        path.with_suffix(".new").write_bytes(gzip.compress(table(6001).encode()))
        path.with_suffix(".new").rename(path)

    with pytest.raises(InputError, match="the file changed while it was read"):
        convert_texts(
            tmp_path, {"train": gzip.compress(table(6000).encode())}, on_progress=on_progress, block_bytes=3000
        )


@pytest.mark.parametrize("processes", [False, True])
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(converter, "_SMALL_BYTES", 0 if processes else 1 << 30)
    with faults.small_files(8192), pytest.raises(InputError, match="data: File too large; it takes more than"):
        convert_texts(tmp_path, {"train": table(250)}, shards=2, workers=2)
    assert left_over(tmp_path) == []
