"""Whole programs beside what a user would run instead of ours."""

import json
import os
import pathlib

import numpy as np
import pytest

from pipeline.errors import InputError
from tests.helpers.datasets import write_csv
from tools import benchmark


@pytest.fixture(scope="module")
def pixels_csv(tmp_path_factory):
    """A CSV of 28 x 28, as the article's network needs them."""
    images = np.random.default_rng(0).integers(0, 256, (1300, 28, 28), np.uint8)
    return write_csv(tmp_path_factory.mktemp("csv") / "train.csv", images, np.arange(1300) % 10)


def test_a_conversion_is_timed_beside_pandas(pixels_csv, capsys):
    assert benchmark.main(["convert", "--csv", str(pixels_csv), "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    for part in ("convert / pandas.read_csv", "convert / pandas, whole", "convert, seconds", "pandas, whole, seconds"):
        assert part in out


def test_training_is_timed_beside_the_article(pixels_csv, tmp_path):
    json_path = tmp_path / "article.json"
    given = ["--csv", str(pixels_csv), "--rows", "1000", "--rounds", "1", "--json", str(json_path)]
    assert benchmark.main(["article", *given]) == 0
    found = json.loads(json_path.read_text())
    assert [row["name"] for row in found["rows"]] == ["train.py", "article", "peak"]
    ours, article, peak = (row["images_per_second"] for row in found["rows"])
    assert [ratio["ratio"] for ratio in found["ratios"]] == pytest.approx([ours / article, peak / article])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["convert"], "absent.csv: no such file"),
        (["article", "--rows", "10"], "absent.csv: no such file"),
    ],
)
def test_a_csv_that_is_not_there_is_named(command, message):
    with pytest.raises(InputError, match=message):
        benchmark.main([*command, "--csv", "absent.csv"])


@pytest.mark.parametrize(
    ("make", "kind"), [(pathlib.Path.mkdir, "it is a directory"), (os.mkfifo, "not a regular file")]
)
def test_a_csv_that_is_no_file_is_said_so(tmp_path, make, kind):
    make(tmp_path / "train.csv")
    with pytest.raises(InputError, match=f"--csv .*train.csv: {kind}; give a CSV file"):
        benchmark.main(["convert", "--csv", str(tmp_path / "train.csv")])


def test_fewer_rows_than_asked_for_are_said(pixels_csv):
    with pytest.raises(InputError, match="has 1,300 rows, --rows 2,000 asks for more"):
        benchmark.main(["article", "--csv", str(pixels_csv), "--rows", "2000"])
