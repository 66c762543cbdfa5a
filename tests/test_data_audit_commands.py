"""The audit in a conversion and as a command."""

import re

import pytest

from pipeline.errors import InputError
from tests.helpers.conversion import left_over, table, write_sources
from tools import csv_to_tfrecord, inspect_tfrecord


def distinct(rows, first=0):
    """A CSV of images that differ, of which `first` is the first one's number."""
    header, *lines = table(first + rows).splitlines()
    return "\n".join([header, *lines[first:]]) + "\n"


def convert(folder, texts, *more):
    args = [f"--split={name}={path}" for name, path in write_sources(folder, texts)]
    csv_to_tfrecord.main([*args, "--out", str(folder / "data"), *map(str, more)])


def test_conversion_says_that_nothing_is_doubled(tmp_path, capsys):
    convert(tmp_path, {"train": distinct(30), "test": distinct(10, first=30)})
    out = capsys.readouterr().out
    assert "  duplicates: no image occurs twice in a split; train and test share none\n" in out
    assert "  labels: no image has two labels\n" in out
    assert re.search(r"^  classes: test has the shares of train \(.*apart.*\)$", out, re.MULTILINE)
    assert re.search(r"^  intensity: test .* train, ", out, re.MULTILINE)


def test_leaks_are_refused_before_anything_is_published_and_listed(tmp_path):
    texts = {"train": distinct(30), "test": distinct(10, first=29)}
    with pytest.raises(InputError, match="1 row of test occurs in train too") as error:
        convert(tmp_path, texts, "--refuse-leaks", "--details", tmp_path / "audit.csv")
    assert "\n" not in str(error.value)
    assert left_over(tmp_path) == []
    assert len((tmp_path / "audit.csv").read_text().splitlines()) == 3
    convert(tmp_path, texts)
    assert left_over(tmp_path) == ["data"]


def test_conversion_without_audit_says_nothing_of_it(tmp_path, capsys):
    convert(tmp_path, {"train": distinct(30)}, "--no-audit")
    assert "duplicates" not in capsys.readouterr().out


def test_command_lists_and_drops(tmp_path, capsys):
    convert(tmp_path, {"train": distinct(30), "test": distinct(10, first=29)})
    capsys.readouterr()
    options = ["--near-duplicates", "--details", tmp_path / "audit.csv", "--drop-duplicates", tmp_path / "clean"]
    assert inspect_tfrecord.main(["audit", str(tmp_path / "data"), *map(str, options)]) == 0
    first, *_, details, dropped = capsys.readouterr().out.splitlines()
    assert first == "duplicates: no image occurs twice in a split; 1 row of test occurs in train too"
    assert details.endswith(" rows") and dropped == f"{tmp_path}/clean: written without 1 row of train"
    inspect_tfrecord.main(["audit", str(tmp_path / "clean")])
    assert "train and test share none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--no-audit", "--refuse-leaks"], "--no-audit excludes"),
        (["--details", "nowhere/audit.csv"], "nowhere/audit.csv: no directory nowhere"),
    ],
)
def test_invalid_options_write_nothing(tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        convert(tmp_path, {"train": distinct(30)}, *more)
    assert left_over(tmp_path) == []
