"""The files of tools/predict.py: every row once, in the order of the CSV; and all of them are complete, or none."""

import csv
import os
import resource
import stat

import numpy as np
import pytest

from pipeline.errors import InputError
from tests.helpers.pictures import count_pixels
from tests.helpers.saved_runs import (
    IDS,
    NAMES,
    expected,
    expected_names,
    pixels,
    run_predict,
    tiny_model,
    write_csv,
    write_data,
    write_home,
    write_run,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


def test_submission_has_ids_and_original_labels_in_order(home, tmp_path, capsys):
    header, *lines = run_predict(home, tmp_path, split="test")
    assert header == ["id", "label"]
    assert lines == [[str(row_id), name] for row_id, name in zip(IDS, expected_names(23), strict=True)]
    out = capsys.readouterr().out
    assert "23 rows in" in out and "images/s" in out and "accuracy" not in out
    assert " ".join(f"{name}:{expected_names(23).count(name)}" for name in NAMES) in out


def test_csv_gives_the_submission_of_the_converted_split(home, tmp_path):
    of_csv = run_predict(home, tmp_path, "--csv", home / "test.csv", split=None)
    assert of_csv == run_predict(home, tmp_path, split="test", out="split.csv")


def test_labelled_split_reports_its_accuracy(home, tmp_path, capsys):
    run_predict(home, tmp_path)
    assert "accuracy 82.61% of 23 labelled rows" in capsys.readouterr().out


def test_probabilities_have_a_column_per_class(home, tmp_path):
    run_predict(home, tmp_path, "--probabilities", tmp_path / "p.csv")
    header, *lines = csv.reader((tmp_path / "p.csv").open(newline=""))
    assert header == ["id", *NAMES]
    assert [line[0] for line in lines] == [str(row_id) for row_id in IDS]
    np.testing.assert_allclose(np.array(lines, float)[:, 1:], expected(pixels(23)), atol=1e-6)


@pytest.mark.parametrize(("split", "any_red"), [("val", True), ("test", False)])
def test_grid_marks_wrong_predictions_of_labelled_rows(home, tmp_path, split, any_red):
    run_predict(home, tmp_path, "--grid", tmp_path / "grid.png", split=split)
    assert (count_pixels(tmp_path / "grid.png", (0xC1, 0x12, 0x1F)) > 0) == any_red


def all_outputs(folder):
    return ["--probabilities", folder / "p.csv", "--grid", folder / "grid.png"]


def test_existing_file_is_refused_and_kept(home, tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(InputError, match=r"out\.csv: exists; .*--overwrite"):
        run_predict(home, tmp_path)
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert len(run_predict(home, tmp_path, "--overwrite")) == 24


def test_file_that_appears_meanwhile_is_refused_and_kept(home, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.evaluate.submission._draw_grid", lambda *_: b"x" * (tmp_path / "out.csv").write_bytes(b"mine")
    )
    with pytest.raises(InputError, match=r"out\.csv: exists"):
        run_predict(home, tmp_path, *all_outputs(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.csv": b"mine"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--probabilities", "{tmp}/out.csv"], "given for two files"),
        (["--probabilities", "{tmp}/none/p.csv"], "no directory .*none; create it first"),
        (["--grid", "{tmp}"], "not a regular file"),
        (["--csv", "{tmp}/out.csv"], "given for two files"),
    ],
    ids=["one file for two", "missing directory", "directory as file", "the CSV itself"],
)
def test_bad_outputs_are_refused(home, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        run_predict(
            home, tmp_path, *(word.format(tmp=tmp_path) for word in more), split=None if "--csv" in more else "val"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to("/dev/null"), os.mkfifo, lambda path: path.symlink_to("missing")],
    ids=["link to a device", "FIFO", "dangling link"],
)
def test_outputs_that_are_not_regular_files_are_refused(home, tmp_path, make):
    make(tmp_path / "p.csv")
    before = (tmp_path / "p.csv").lstat()
    with pytest.raises(InputError, match=r"p\.csv: .*not a regular file"):
        run_predict(home, tmp_path, "--probabilities", tmp_path / "p.csv", "--overwrite")
    assert (tmp_path / "p.csv").lstat().st_mode == before.st_mode and not stat.S_ISREG(before.st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.fixture
def file_size_limit():
    """A function that limits the size of the files that this process writes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("size", "name"), [(100, "out.csv"), (300, "p.csv"), (1000, "grid.png")])
def test_full_disk_leaves_nothing_and_the_same_command_works_later(home, tmp_path, file_size_limit, size, name):
    file_size_limit(size)
    with pytest.raises(InputError, match=f"{name}: does not fit on the disk; free space, then run the command again"):
        run_predict(home, tmp_path, *all_outputs(tmp_path))
    assert not list(tmp_path.iterdir())
    file_size_limit(resource.RLIM_INFINITY)
    run_predict(home, tmp_path, *all_outputs(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "out.csv", "p.csv"]


def test_file_that_cannot_be_published_takes_the_others_back(home, tmp_path, monkeypatch):
    def block_submission(*_):
        (tmp_path / "out.csv").mkdir()
        (tmp_path / "out.csv/inside").touch()

    monkeypatch.setattr("pipeline.evaluate.submission.Outputs.check", lambda *_, **__: None)
    monkeypatch.setattr("pipeline.evaluate.submission.check_finite", block_submission)
    with pytest.raises((InputError, OSError), match="out.csv"):
        run_predict(home, tmp_path, *all_outputs(tmp_path), "--batch-size", 23)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_csv_that_is_wrong_at_its_end_writes_nothing(home, tmp_path):
    path = write_csv(home / "wrong.csv", labels=[*["0"] * 22, "9"])
    with pytest.raises(InputError, match="label 9"):
        run_predict(home, tmp_path, "--csv", path, *all_outputs(tmp_path), split=None)
    assert not list(tmp_path.iterdir())


def test_diverged_model_writes_nothing(tmp_path):
    model = tiny_model()
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    write_data(home / "data")
    write_run(home / "run", model)
    with pytest.raises(InputError, match="id 1000 is not a number.*diverged"):
        run_predict(home, folder)
    assert not list(folder.iterdir())
