"""Ids that are text: kept beside the shards, and returned for records of any split."""

import numpy as np
import pytest

from pipeline.convert.repair import repair
from pipeline.errors import InputError
from pipeline.evaluate.predict import Predictions
from pipeline.evaluate.report import evaluated_parts
from pipeline.feed.holdout import Holdout
from pipeline.format.manifest import load_manifest
from pipeline.format.text_ids import original_ids
from pipeline.format.verify import inspect
from pipeline.splits import HOLDOUT
from tests.helpers.conversion import PIXELS, convert_texts, left_over, read_split, table

FILE = "train.ids.txt"


def with_text_ids(names, label=True):
    lines = [f"{name},{k % 3},{k},7,8,9" if label else f"{name},{k},7,8,9" for k, name in enumerate(names)]
    return "\n".join([f"id,label,{PIXELS}" if label else f"id,{PIXELS}", *lines]) + "\n"


def names(prefix, count):
    return [f"{prefix} {k}.png" for k in range(count)]


@pytest.fixture
def data(tmp_path):
    texts = {
        "train": [with_text_ids(names("a", 20)), with_text_ids(names("é", 10))],
        "test": table(5, "id", lambda k: k),
    }
    convert_texts(tmp_path, texts, val_fraction=0.2, shards=2)
    return tmp_path / "data"


def test_each_row_of_train_and_val_has_its_text(data):
    manifest = load_manifest(data)
    expected = names("a", 20) + names("é", 10)
    seen = []
    for split in ("train", "val"):
        images, _, ids = read_split(data, split)
        texts = original_ids(data, manifest, split, ids).tolist()
        assert texts == [expected[row] for row in ids]
        assert [int(text.split()[1].removesuffix(".png")) for text in texts] == images[:, 0].tolist()
        seen += texts
    assert sorted(seen) == sorted(expected)
    assert (data / FILE).read_text(encoding="utf-8").splitlines() == expected


def test_zeros_before_an_id_are_kept(tmp_path):
    codes = [f"{k:05d}" for k in range(5)]
    convert_texts(tmp_path, {"train": with_text_ids(codes)})
    assert (tmp_path / "data" / FILE).read_text(encoding="utf-8").splitlines() == codes


def test_ids_of_a_split_without_text_are_numbers(data):
    ids = read_split(data, "test")[2]
    assert original_ids(data, load_manifest(data), "test", ids) is ids
    assert not (data / "test.ids.txt").exists()


def test_groups_are_named_by_text(data):
    parts = evaluated_parts(data, load_manifest(data), Holdout("first:8", 4))
    held = next(part for part in parts if part.name == HOLDOUT)
    labels = held.arrays.labels
    wrong = np.where(np.arange(8) < 4, labels, (labels + 1) % 3)  # the second group
    predictions = Predictions(labels, wrong, np.ones(8), np.ones(8))
    figures = held.evaluate(predictions, ["0", "1", "2"]).groups
    assert figures.worst_id == f"a {held.arrays.ids[4]}.png"
    assert f"(4 rows from id a {held.arrays.ids[4]}.png on)" in figures.describe()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: path.unlink(), "missing, though the manifest lists it"),
        (lambda path: path.write_text("other"), "changed since it was written"),
    ],
)
def test_verify_reading_and_repair_report_a_changed_file(data, change, problem):
    change(data / FILE)
    manifest = load_manifest(data)
    assert list(inspect(data, manifest).lines()) == [f"{FILE}: {problem}"]
    with pytest.raises(InputError, match=f"{FILE}: {problem}"):
        original_ids(data, manifest, "val", np.arange(3))
    with pytest.raises(InputError, match=f"{FILE}: {problem}; it cannot be rebuilt"):
        repair(data, [])


def test_overwrite_knows_the_file_of_ids(data, tmp_path):
    convert_texts(tmp_path, {"train": table(4)}, overwrite=True)
    assert not (data / FILE).exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([["a", "b"], ["c", "a"]], r"train1\.csv, line 3: id 'a' is a duplicate, also used on .*train0\.csv, line 2"),
        ([["a", "b", "b"]], r"train0\.csv, line 4: id 'b' is a duplicate, also used on .*train0\.csv, line 3"),
        ([["a", "b"], ["1", "2"]], r"train1\.csv: its ids are numbers, but those of .*train0\.csv are text"),
    ],
    ids=["in two files", "in one file", "numbers in another file"],
)
def test_ids_that_cannot_be_told_apart_are_refused(tmp_path, files, message):
    with pytest.raises(InputError, match=message) as error:
        convert_texts(tmp_path, {"train": [with_text_ids(file) for file in files]})
    assert "\n" not in str(error.value)
    assert left_over(tmp_path) == []


def test_data_without_text_ids_keep_their_manifest(tmp_path):
    convert_texts(tmp_path, {"train": table(4)})
    assert "text_ids" not in (tmp_path / "data/manifest.json").read_text()
