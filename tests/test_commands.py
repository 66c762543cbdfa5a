"""The commands as a user types them, in processes of their own."""

import json
import os
import pathlib

import pandas as pd
import pytest

import pipeline
import train
from tests.helpers.commands import run_script as run
from tests.helpers.datasets import bars, write_csv

ROOT = pathlib.Path(__file__).parent.parent
TOOLS = ["train.py", *sorted(f"tools/{path.name}" for path in (ROOT / "tools").glob("[a-z]*.py"))]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with train.csv and test.csv, converted, trained on and predicted by the commands of the README."""
    folder = tmp_path_factory.mktemp("workspace")
    write_csv(folder / "train.csv", *bars(range(300)))
    write_csv(folder / "test.csv", bars(range(300, 340))[0])
    splits = ["--split", "train=train.csv", "--split", "test=test.csv"]
    run(folder, "tools/csv_to_tfrecord.py", *splits, "--val-fraction", "0.1", "--shards", "2", "--out", "data/bars")
    arguments = ["--data", "data/bars", "--strategy", "mirrored", "--devices", "2", "--run-dir", "runs/first"]
    options = ["--recipe", "tutorial", "--epochs", "4", "--precision", "float32", "--tensorboard"]
    run(folder, "train.py", *arguments, *options)
    predict = ["--run", "runs/first", "--data", "data/bars", "--split", "test", "--out", "submission.csv"]
    run(folder, "tools/predict.py", *predict)
    return folder


def test_commands_of_the_readme_leave_all_results(workspace):
    out, _ = run(workspace, "tools/inspect_tfrecord.py", "show", "data/bars")
    assert all(word in out for word in ("bars", "train", "val", "test", "270", "30", "40"))
    run_dir = workspace / "runs/first"
    names = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*")}
    figures = ("class_balance", "samples", "curve_loss", "confusion_val", "predictions_val", "predictions_test")
    files = {"config.json", "history.csv", "steps.csv", "evaluation.json", "model.keras", "saved_model/saved_model.pb"}
    assert files | {f"figures/{name}.png" for name in figures} | {"checkpoints/best.npz", "tensorboard/train"} <= names
    history = pd.read_csv(run_dir / "history.csv")  # as users read the tables
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["val_accuracy"].between(0, 1).all()
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["precision"], config["strategy"]["replicas"]) == ("float32", 2)
    submission = pd.read_csv(workspace / "submission.csv")
    assert submission["id"].tolist() == list(range(40))
    assert (submission["label"] == bars(range(300, 340))[1]).mean() > 0.8


def test_the_same_command_again_trains_no_further(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    before = (workspace / "runs/first/history.csv").read_bytes()
    arguments = ["--data", "data/bars", "--run-dir", "runs/first", "--recipe", "tutorial", "--epochs", "4"]
    arguments += ["--strategy", "mirrored", "--devices", "2", "--precision", "float32", "--log-json"]
    assert train.main(arguments) == 0
    names = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert [name for name in names if name not in ("note", "phase")] == ["resumed", "evaluation", "evaluation", "done"]
    assert (workspace / "runs/first/history.csv").read_bytes() == before


@pytest.mark.parametrize("tool", TOOLS)
def test_help_and_version_answer_without_importing_tensorflow(tool, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    assert run(tmp_path, tool, "--help", env=environment)[0].startswith("usage: ")
    assert run(tmp_path, tool, "--version", env=environment)[0].split()[-1] == pipeline.__version__


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train.py", "--data", "nowhere"], "error: nowhere: no manifest.json, so not a data set"),
        (["train.py", "--data", "nowhere", "--epochs", "0"], "error: --epochs 0: it must be at least 1"),
        (["tools/csv_to_tfrecord.py", "--split", "train=no.csv", "--out", "o"], "error: no.csv: "),
        (["tools/predict.py", "--run", "no", "--csv", "no.csv", "--out", "s.csv"], "error: no: "),
        (["tools/inspect_tfrecord.py", "show", "nowhere"], "error: nowhere: no manifest.json, so not a data set"),
        (["tools/benchmark.py", "train", "--data", "nowhere"], "error: nowhere: no manifest.json, so not a data set"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, command, message):
    _, err = run(tmp_path, *command, expect=2)
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
