"""Series of runs: folds with out-of-fold predictions, and seeds with their ensemble; killed, resumed, refused."""

import contextlib
import dataclasses
import io
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

import train
from pipeline.api import run as api_run
from pipeline.errors import InputError
from pipeline.evaluate.groups import measure_groups
from pipeline.evaluate.metrics import evaluate
from pipeline.evaluate.predict import Predictions
from pipeline.evaluate.saved_run import read_runs
from pipeline.evaluate.series import Series, SplitFigures
from pipeline.feed.holdout import Holdout
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig
from pipeline.train.series import check_directory, runs_of
from tools.prove_resume import max_weight_difference

FOLDS = ["--folds", "2", "--group-size", "20", "--seed", "3"]


def settings(digits, run_dir, *more):
    fixed = ["--recipe", "fast", "--epochs", "1", "--batch-size", "64", "--precision", "float32", "--strategy", "one"]
    return [str(value) for value in ("--data", digits, "--run-dir", run_dir, *fixed, *more)]


def probabilities(run_dir, arrays, rows):
    """By Keras alone."""
    model = keras.saving.load_model(run_dir / "model.keras")
    return model.predict(arrays.images[rows].reshape(-1, 8, 8, 1), verbose=0)


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folds(digits, tmp_path_factory):
    """A series of two folds, and what it printed."""
    run_dir, out = tmp_path_factory.mktemp("series") / "folds", io.StringIO()
    with contextlib.redirect_stdout(out):
        assert train.main(settings(digits, run_dir, *FOLDS)) == 0
    return run_dir, out.getvalue()


def test_each_row_is_predicted_once_by_the_run_that_did_not_see_it(digits, folds):
    run_dir, _ = folds
    arrays, table = load_split(digits, load_manifest(digits), "train"), pd.read_csv(run_dir / "oof.csv")
    assert table["id"].tolist() == arrays.ids.tolist()
    names = np.array(load_manifest(digits).class_names)
    assert table["label"].astype(str).tolist() == names[arrays.labels].tolist()
    columns = table[names].to_numpy()
    for fold in range(2):
        rows = Holdout(f"fold:{fold}/2:3", 20).rows(arrays.labels)
        assert np.flatnonzero(table["fold"] == fold).tolist() == rows.tolist()
        config = read_json(run_dir / f"fold-{fold}/config.json")
        assert config["identity"]["holdout"] == f"fold:{fold}/2:3 in groups of 20"
        assert config["holdout"]["num_trained"] == len(arrays) - len(rows)
        np.testing.assert_allclose(columns[rows], probabilities(run_dir / f"fold-{fold}", arrays, rows), atol=1e-5)
    assert table["predicted"].astype(str).tolist() == names[columns.argmax(axis=1)].tolist()


def test_the_summary_of_folds_has_their_spread_and_all_groups(folds):
    run_dir, out = folds
    series, table = read_json(run_dir / "series.json"), pd.read_csv(run_dir / "oof.csv")
    right = table["label"] == table["predicted"]
    held = series["splits"]["holdout"]
    assert held["accuracies"] == pytest.approx(right.groupby(table["fold"]).mean().tolist())
    assert (held["mean"], held["std"]) == pytest.approx(
        (np.mean(held["accuracies"]), np.std(held["accuracies"], ddof=1))
    )
    assert set(series["splits"]) == {"holdout", "val"}
    joint = series["out_of_fold"]["holdout"]
    assert joint["accuracy"] == pytest.approx(right.mean())
    assert joint["groups"]["accuracies"] == pytest.approx(right.groupby(table.index // 20).mean().tolist())
    assert f"out of fold  {right.mean():.2%}" in out


def test_a_killed_series_resumes_and_skips_what_is_complete(digits, folds, tmp_path, capsys):
    run_dir = tmp_path / "folds"
    shutil.copytree(folds[0], run_dir)
    for name in ("series.json", "oof.csv", "fold-1/evaluation.json", "fold-1/model.keras"):  # as a kill in fold 1
        (run_dir / name).unlink()
    finished = (run_dir / "fold-0/evaluation.json").stat().st_mtime_ns
    assert train.main(settings(digits, run_dir, *FOLDS)) == 0
    out = capsys.readouterr().out
    assert f"{run_dir / 'fold-0'} is complete" in out
    assert "resumed after the last epoch" in out
    assert (run_dir / "fold-0/evaluation.json").stat().st_mtime_ns == finished
    for name in ("series.json", "oof.csv"):
        assert (run_dir / name).read_bytes() == (folds[0] / name).read_bytes()


def test_seeds_are_ordinary_runs_and_their_ensemble_is_evaluated(digits, tmp_path, capsys, monkeypatch):
    held = ["--holdout", "last:60"]
    assert train.main(settings(digits, tmp_path / "seeds", *held, "--seeds", "2", "--seed", "5")) == 0
    out = capsys.readouterr().out
    monkeypatch.setattr(api_run, "write_results", lambda *_: None)  # takes most of a small run
    assert train.main(settings(digits, tmp_path / "lone", *held, "--seed", "6")) == 0
    assert max_weight_difference(tmp_path / "seeds/seed-1", tmp_path / "lone") == 0

    page = (tmp_path / "seeds/report.html").read_text("utf-8")
    series = read_json(tmp_path / "seeds/series.json")
    for k, accuracy in enumerate(series["splits"]["holdout"]["accuracies"]):
        assert f'<a href="seed-{k}/report.html">seed-{k}</a></td><td>{accuracy:.2%}</td>' in page
    assert f"<td>ensemble</td><td>{series['ensemble']['holdout']['accuracy']:.2%}</td>" in page
    runs = [tmp_path / f"seeds/seed-{k}" for k in range(2)]
    own = [read_json(run / "evaluation.json")["splits"]["holdout"]["accuracy"] for run in runs]
    assert series["splits"]["holdout"]["accuracies"] == own
    manifest = load_manifest(digits)
    for name, rows in (("holdout", slice(143, 203)), ("val", slice(None))):
        arrays = load_split(digits, manifest, "train" if name == "holdout" else name)
        mean = np.mean([probabilities(run, arrays, rows) for run in runs], axis=0)
        accuracy = (mean.argmax(axis=1) == arrays.labels[rows]).mean()
        assert series["ensemble"][name]["accuracy"] == pytest.approx(accuracy)
    assert f"mean      {np.mean(own):.2%}" in out


def test_the_table_has_a_row_per_run_and_the_worst_groups():
    runs = [{"accuracy": 0.9, "groups": {"worst": 0.5}}, {"accuracy": 0.8, "groups": {"worst": 0.7}}]
    splits = {"holdout": SplitFigures.of(runs), "val": SplitFigures.of([{"accuracy": 0.25}, {"accuracy": 0.75}])}
    correct = np.array([1, 1, 0, 1])
    predictions = Predictions(np.zeros(4, int), 1 - correct, np.ones(4), np.ones(4))
    groups = measure_groups(correct == 1, np.array([0, 0, 1, 1]), np.arange(7, 11))
    joint = dataclasses.replace(evaluate("holdout", predictions, ["a", "b"]), groups=groups)
    assert Series(("seed-0", "seed-1"), splits, "ensemble", {"holdout": joint}).table() == [
        "run          holdout  val",
        "seed-0       90.00%   25.00%",
        "seed-1       80.00%   75.00%",
        "mean         85.00%   50.00%",
        "std          7.07%    35.36%",
        "worst group  60.00%",
        "ensemble     75.00%",
        "ensemble, holdout: 2 groups: mean 75.00%, standard deviation 35.36%, worst 50.00% (2 rows from id 9 on)",
    ]


def test_runs_of_a_series_differ_in_nothing_else(digits, tmp_path):
    config = TrainConfig(data=digits, run_dir=tmp_path, folds=3, seed=2)
    assert [(run.run_dir.name, run.holdout, run.seed, run.folds) for run in runs_of(config)] == [
        ("fold-0", "fold:0/3:2", 2, None),
        ("fold-1", "fold:1/3:2", 2, None),
        ("fold-2", "fold:2/3:2", 2, None),
    ]
    config = TrainConfig(data=digits, run_dir=tmp_path, seeds=2, seed=2, final=True)
    assert [(run.run_dir.name, run.final, run.seed, run.seeds) for run in runs_of(config)] == [
        ("seed-0", True, 2, None),
        ("seed-1", True, 3, None),
    ]
    single = TrainConfig(data=digits, run_dir=tmp_path)
    assert runs_of(single) == [single]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"folds": 2, "seeds": 2}, "--folds holds out one fold per run; omit --seeds"),
        ({"folds": 2, "final": True}, "omit --final"),
        ({"folds": 2, "holdout": "first:9"}, "omit --holdout"),
        ({"folds": 1}, "--folds 1: it must be at least 2"),
        ({"seeds": 1}, "--seeds 1: it must be at least 2"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(digits, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(data=digits, run_dir=tmp_path, **more)


@pytest.mark.parametrize("name", ["config.json", "seed-0", "thesis.tex", "fold-x"])
def test_a_directory_of_something_else_is_refused(digits, tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="exists but is not a directory of --folds; choose another --run-dir"):
        check_directory(TrainConfig(data=digits, run_dir=tmp_path, folds=2))


@pytest.mark.parametrize(
    "name", ["fold-12", "fold-0.old-1", "oof.csv", "series.json", "report.html", ".oof.csv.partial-1"]
)
def test_a_directory_of_the_series_is_accepted(digits, tmp_path, name):
    check_directory(TrainConfig(data=digits, run_dir=tmp_path / "new", folds=2))
    (tmp_path / name).touch()
    check_directory(TrainConfig(data=digits, run_dir=tmp_path, folds=2))


def test_more_folds_than_groups_are_refused_before_anything_is_written(digits, tmp_path):
    with pytest.raises(InputError, match="4 folds need as many groups of 100 rows, and there are 3; use fewer folds"):
        train.main(settings(digits, tmp_path / "run", "--folds", "4", "--group-size", "100"))
    assert not (tmp_path / "run").exists()


def test_the_directory_of_a_series_is_read_as_its_runs(folds, tmp_path):
    runs = [folds[0] / "fold-0", folds[0] / "fold-1"]
    assert [run.directory for run in read_runs([folds[0]])] == runs
    shutil.copytree(runs[0], tmp_path / "fold-0")
    with pytest.raises(InputError, match=r"a series without series.json; run its train.py command to the end"):
        read_runs([tmp_path])
