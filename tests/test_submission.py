"""Rows from a CSV or a split, every row once in the order of the CSV; and output files all complete, or none."""

import csv
import dataclasses
import os
import resource

import numpy as np
import pandas as pd
import pytest

from pipeline.api.functions import convert
from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError
from pipeline.evaluate import sources
from pipeline.evaluate.predict import shifted_views
from pipeline.evaluate.saved_run import read_run
from pipeline.feed.normalize import Normalization
from pipeline.feed.resident import load_split
from pipeline.format.manifest import Reading
from tests.helpers.pictures import count_pixels
from tests.helpers.saved_runs import (
    IDS,
    NAMES,
    SHAPE,
    expected,
    expected_names,
    pixels,
    run_predict,
    tiny_model,
    write_csv,
    write_home,
    write_run,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def run(home):
    return read_run(home / "run")


def all_outputs(folder):
    return ["--probabilities", folder / "p.csv", "--grid", folder / "grid.png"]


def joined(source):
    return [np.concatenate(arrays) for arrays in zip(*source.blocks, strict=True)]


def test_csv_gives_the_rows_of_the_converted_split(home, run):
    split = sources.open_split(run, home / "data", "val")
    assert (split.name, split.num_rows) == ("val", 23)
    for of_split, of_csv in zip(joined(split), joined(sources.open_csv(run, home / "val.csv")), strict=True):
        np.testing.assert_array_equal(of_split, of_csv)


def test_csv_without_ids_and_labels(tmp_path, run):
    rows = 70_001  # more than one block
    images, labels, ids = joined(sources.open_csv(run, write_csv(tmp_path / "in.csv", rows=rows)))
    np.testing.assert_array_equal(images, pixels(rows))
    assert set(labels) == {-1}
    np.testing.assert_array_equal(ids, np.arange(rows))


def test_table_of_another_layout_is_read_with_the_options_of_a_conversion(tmp_path, run):
    images = pixels(40)
    rows = [[f"image {k}", NAMES[k % 3], *(row / 255).tolist()] for k, row in enumerate(images)]
    header = ["name", "label", *(f"p{k}" for k in range(12))]
    path = tmp_path / "in.csv"
    path.write_text("".join(";".join(map(str, line)) + "\n" for line in [header, *rows]))
    options = ReadOptions(id_column="name", pixel_range=(0, 1))
    read = joined(sources.open_csv(run, path, options))
    np.testing.assert_array_equal(read[0].reshape(40, 12), images)
    assert read[1].tolist() == [k % 3 for k in range(40)]
    assert read[2].tolist() == [f"image {k}" for k in range(40)]


def test_csv_is_read_as_the_training_data_were_unless_options_say_otherwise(tmp_path, run):
    images = pixels(40) // 16
    manifest = write_turned(tmp_path, images)
    assert manifest.reading == Reading((0.0, 16.0), transpose=True)
    trained = dataclasses.replace(run, reading=manifest.reading)
    source = sources.open_csv(trained, tmp_path / "train.csv")
    converted = load_split(tmp_path / "data", manifest, "train").images
    np.testing.assert_array_equal(joined(source)[0], converted)
    (note,) = source.notes
    assert note == "read as the training data were, with --pixel-range 0 16 --transpose; --as-is reads the file without"
    for given in ({"as_is": True}, {"options": ReadOptions(pixel_range=(0, 255)), "as_is": True}):
        plain = sources.open_csv(trained, tmp_path / "train.csv", **given)
        np.testing.assert_array_equal(joined(plain)[0].reshape(40, 12), images)
    wider = sources.open_csv(trained, tmp_path / "train.csv", ReadOptions(pixel_range=(0, 32)))
    assert int(joined(wider)[0].max()) == 120
    assert "reading" not in (tmp_path / "plain/manifest.json").read_text()


def write_turned(folder, images):
    """The images as train.csv, converted as they are to `plain`, and turned and scaled to `data`."""
    path = write_csv(folder / "train.csv", rows=40, labels=[0, 3] * 20)
    frame = pd.read_csv(path)
    frame[[name for name in frame if name.startswith("pixel")]] = images
    frame.to_csv(path, index=False)
    convert({"train": path}, folder / "plain", image_shape=SHAPE)
    return convert({"train": path}, folder / "data", image_shape=SHAPE, pixel_range=(0, 16), transpose=True)


def test_csv_without_header(tmp_path, run):
    path = write_csv(tmp_path / "in.csv", labels=expected_names(23), header=False)
    _, labels, _ = joined(sources.open_csv(run, path, ReadOptions(has_header=False, label_column="0")))
    assert [run.class_names[label] for label in labels] == expected_names(23)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"width": 16}, "in.csv: 16 pixel columns, but .*images of 4x3x1, which need 12"),
        ({"labels": [*["0"] * 22, "9"]}, r"in\.csv, row 22 \(counted from 0\): label 9 is not one of the classes"),
        ({"labels": [*["0"] * 22, "x"]}, r"in\.csv, line 24: .*'x'"),
        ({"rows": 0}, r"in\.csv: has no rows"),
    ],
    ids=["other pixel count", "unknown label", "label is not a number", "no rows"],
)
def test_csv_that_does_not_fit_writes_nothing(home, tmp_path, columns, message):
    path = write_csv(home / "in.csv", **columns)
    with pytest.raises(InputError, match=message):
        run_predict(home, tmp_path, "--csv", path, *all_outputs(tmp_path), split=None)
    assert not list(tmp_path.iterdir())


def test_unknown_split_names_those_of_the_data(home, run):
    with pytest.raises(InputError, match="no split 'dev' in data; it has test, train, val"):
        sources.open_split(run, home / "data", "dev")


@pytest.mark.parametrize("source", [["--split", "test", "--data"], ["--csv"]], ids=["split", "CSV"])
def test_submission_has_ids_and_original_labels_in_order(home, tmp_path, capsys, source):
    path = home / ("test.csv" if source == ["--csv"] else "data")
    header, *lines = run_predict(home, tmp_path, *source, path, split=None)
    assert header == ["id", "label"]
    assert lines == [[str(row_id), name] for row_id, name in zip(IDS, expected_names(23), strict=True)]
    out = capsys.readouterr().out
    assert "23 rows in" in out and "images/s" in out and "accuracy" not in out
    assert " ".join(f"{name}:{expected_names(23).count(name)}" for name in NAMES) in out


@pytest.mark.parametrize(("split", "labelled"), [("val", True), ("test", False)])
def test_all_outputs_of_a_split(home, tmp_path, capsys, split, labelled):
    run_predict(home, tmp_path, *all_outputs(tmp_path), split=split)
    header, *lines = csv.reader((tmp_path / "p.csv").open(newline=""))
    assert header == ["id", *NAMES]
    assert [line[0] for line in lines] == [str(row_id) for row_id in IDS]
    np.testing.assert_allclose(np.array(lines, float)[:, 1:], expected(pixels(23)), atol=1e-6)
    assert (count_pixels(tmp_path / "grid.png", (0xC1, 0x12, 0x1F)) > 0) == labelled, "wrong ones are red"
    assert ("accuracy 82.61% of 23 labelled rows" in capsys.readouterr().out) == labelled


def test_existing_file_is_refused_and_kept(home, tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(InputError, match=r"out\.csv: exists; .*--overwrite"):
        run_predict(home, tmp_path)
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert len(run_predict(home, tmp_path, "--overwrite")) == 24


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
    words = [word.format(tmp=tmp_path) for word in more]
    with pytest.raises(InputError, match=message):
        run_predict(home, tmp_path, *words, split=None if "--csv" in more else "val")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to("/dev/null"), os.mkfifo, lambda path: path.symlink_to("missing")],
    ids=["link to a device", "FIFO", "dangling link"],
)
def test_outputs_that_are_not_regular_files_are_refused(home, tmp_path, make):
    make(tmp_path / "p.csv")
    mode = (tmp_path / "p.csv").lstat().st_mode
    with pytest.raises(InputError, match=r"p\.csv: .*not a regular file"):
        run_predict(home, tmp_path, "--probabilities", tmp_path / "p.csv", "--overwrite")
    assert (tmp_path / "p.csv").lstat().st_mode == mode
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(("size", "name"), [(60, "out.csv"), (300, "p.csv"), (1000, "grid.png")])
def test_full_disk_leaves_nothing_and_the_same_command_works_later(home, tmp_path, size, name):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(InputError, match=rf"^{tmp_path}/{name}: File too large; it takes more than \d+ bytes"):
            run_predict(home, tmp_path, *all_outputs(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    run_predict(home, tmp_path, *all_outputs(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "out.csv", "p.csv"]


def test_file_that_appears_meanwhile_is_kept(home, tmp_path, monkeypatch):
    def draw_grid(*args):
        (tmp_path / "out.csv").write_text("mine")

    monkeypatch.setattr("pipeline.evaluate.image_grids.predictions", draw_grid)
    with pytest.raises(InputError, match=r"out\.csv: exists"):
        run_predict(home, tmp_path, *all_outputs(tmp_path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out.csv": "mine"}


def test_diverged_model_writes_nothing(home, tmp_path):
    model = tiny_model()
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    (home / "diverged").mkdir()
    write_run(home / "diverged/run", model)
    (home / "diverged/data").symlink_to(home / "data")
    with pytest.raises(InputError, match="id 1000 is not a number.*diverged"):
        run_predict(home / "diverged", tmp_path)
    assert not list(tmp_path.iterdir())


def read_probabilities(path):
    return np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:]


@pytest.fixture(scope="module")
def second(home):
    """A run on the same data with its own weights and normalization."""
    model = tiny_model()
    model.set_weights([weight[..., ::-1] for weight in model.get_weights()])
    write_run(home / "second", model, Normalization("standard", (60.0,), (90.0,)))
    return home / "second"


def test_two_runs_give_the_average_of_their_probabilities(home, second, tmp_path):
    csvs = [tmp_path / f"{k}.csv" for k in range(3)]
    run_predict(home, tmp_path, "--probabilities", csvs[0], out="a.csv")
    (home / "other").mkdir()
    (home / "other/run").symlink_to(second)
    (home / "other/data").symlink_to(home / "data")
    run_predict(home / "other", tmp_path, "--probabilities", csvs[1], out="b.csv")
    _, *lines = run_predict(home, tmp_path, "--run", second, "--probabilities", csvs[2], out="c.csv")
    first, other, both = map(read_probabilities, csvs)
    np.testing.assert_allclose(both, (first + other) / 2, atol=1e-6)
    assert [name for _, name in lines] == [NAMES[label] for label in both.argmax(axis=1)]
    assert abs(first - other).max() > 0.1, "the runs must differ"


def test_test_time_augmentation_averages_over_shifts(home, tmp_path):
    run_predict(home, tmp_path, "--tta", "--probabilities", tmp_path / "p.csv")
    views = [expected(view) for view in shifted_views(pixels(23), (4, 3, 1))]
    np.testing.assert_allclose(read_probabilities(tmp_path / "p.csv"), np.mean(views, axis=0), atol=1e-6)


def test_runs_that_cannot_be_averaged_are_refused(home, tmp_path):
    write_run(tmp_path / "tall", shape=(3, 4, 1))
    write_run(tmp_path / "turned", names=NAMES[::-1])
    for name, message in (
        ("tall", r"tall: trained on images of 3x4x1, but .*run on 4x3x1; only runs of one shape"),
        ("turned", r"turned: has the classes 7, 3, 0, but .*run has 0, 3, 7; only runs with the same classes in the"),
        ("none", r"none: no such run directory"),
    ):
        with pytest.raises(InputError, match=message) as error:
            run_predict(home, tmp_path, "--run", tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"run/\.\./run: given twice"):
        run_predict(home, tmp_path, "--run", home / "run/../run")
    assert not (tmp_path / "out.csv").exists()


def test_the_run_that_diverged_is_named(home, tmp_path):
    model = tiny_model()
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    write_run(tmp_path / "bad", model)
    with pytest.raises(InputError, match=r"bad: the model's output for id 1000 is not a number"):
        run_predict(home, tmp_path, "--run", tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
