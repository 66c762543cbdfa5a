"""Rows to predict: the same from a CSV and from its converted split, in the order of the CSV."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluate.row_sources import rows_of_csv, rows_of_split
from pipeline.evaluate.saved_run import read_run
from tests.helpers.saved_runs import expected_names, pixels, write_csv, write_home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def run(home):
    return read_run(home / "run")


def joined(rows):
    return [np.concatenate(arrays) for arrays in zip(*rows.batches, strict=True)]


def test_csv_gives_the_rows_of_the_converted_split(home, run):
    split = rows_of_split(run, home / "data", "val", 10)
    assert (split.name, split.num_rows) == ("val", 23)
    for of_split, of_csv in zip(joined(split), joined(rows_of_csv(run, home / "val.csv", 10)), strict=True):
        np.testing.assert_array_equal(of_split, of_csv)


def test_csv_without_ids_and_labels(tmp_path, run):
    images, labels, ids = joined(rows_of_csv(run, write_csv(tmp_path / "in.csv"), 10))
    np.testing.assert_array_equal(images, pixels(23))
    assert set(labels) == {-1}
    assert ids.tolist() == list(range(23))


def test_csv_longer_than_a_block_comes_in_whole_batches(tmp_path, run):
    batches = list(rows_of_csv(run, write_csv(tmp_path / "in.csv", rows=70_001), 4096).batches)
    assert [len(ids) for _, _, ids in batches] == [4096] * 17 + [369]
    np.testing.assert_array_equal(np.concatenate([images for images, _, _ in batches]), pixels(70_001))
    np.testing.assert_array_equal(np.concatenate([ids for _, _, ids in batches]), np.arange(70_001))


def test_csv_without_header(tmp_path, run):
    path = write_csv(tmp_path / "in.csv", labels=expected_names(23), header=False)
    _, labels, _ = joined(rows_of_csv(run, path, 10, has_header=False, label_column="0"))
    assert [run.class_names[label] for label in labels] == expected_names(23)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"width": 16}, "in.csv: 16 pixel columns, but .*images of 4x3x1, which need 12"),
        ({"labels": [*["0"] * 22, "9"]}, r"in\.csv, row 22 \(counted from 0\): label 9 is not one of the classes"),
        ({"labels": [*["0"] * 22, "x"]}, r"in\.csv, line 24: .*'x'"),
        ({"rows": 0}, r"in\.csv: a header"),
    ],
    ids=["other pixel count", "unknown label", "label is not a number", "no rows"],
)
def test_csv_that_does_not_fit_is_refused(tmp_path, run, columns, message):
    path = write_csv(tmp_path / "in.csv", **columns)
    with pytest.raises(InputError, match=message):
        joined(rows_of_csv(run, path, 10))


def test_unknown_split_names_those_of_the_data(home, run):
    with pytest.raises(InputError, match="no split 'dev' in data; it has test, train, val"):
        rows_of_split(run, home / "data", "dev", 10)
