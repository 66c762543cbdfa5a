"""The commands as a user types them, in processes of their own."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import pipeline
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
    train = ["--data", "data/bars", "--strategy", "mirrored", "--devices", "2", "--run-dir", "runs/first"]
    options = ["--epochs", "4", "--batch-size", "32", "--precision", "mixed_bfloat16", "--tensorboard"]
    run(folder, "train.py", *train, *options)
    predict = ["--run", "runs/first", "--data", "data/bars", "--split", "test", "--out", "submission.csv"]
    run(folder, "tools/predict.py", *predict)
    return folder


def test_a_run_directory_holds_all_its_results(workspace):
    names = {path.relative_to(workspace / "runs/first").as_posix() for path in (workspace / "runs/first").rglob("*")}
    figures = {
        f"figures/{name}.png" for name in ("class_balance", "samples", "curves", "confusion_val", "predictions_val")
    }
    files = {"config.json", "history.csv", "evaluation.json", "model.keras", "saved_model/saved_model.pb"}
    assert files | figures | {"checkpoints/best.npz", "tensorboard/train", "figures/predictions_test.png"} <= names
    history = list(csv.DictReader((workspace / "runs/first/history.csv").open()))
    assert [row["epoch"] for row in history] == ["1", "2", "3", "4"]
    config = json.loads((workspace / "runs/first/config.json").read_text())
    assert (config["precision"], config["strategy"]["replicas"]) == ("mixed_bfloat16", 2)


def test_the_submission_has_the_correct_label_for_most_rows(workspace):
    rows = list(csv.DictReader((workspace / "submission.csv").open()))
    assert [row["id"] for row in rows] == [str(k) for k in range(40)]
    labels = bars(range(300, 340))[1]
    assert np.mean([int(row["label"]) for row in rows] == labels) > 0.8


def test_show_prints_the_splits(workspace):
    out, _ = run(workspace, "tools/inspect_tfrecord.py", "show", "data/bars")
    assert all(word in out for word in ("bars", "train", "val", "test", "270", "30", "40"))


def test_the_same_command_again_trains_no_further(workspace):
    before = (workspace / "runs/first/history.csv").read_bytes()
    train = ["--data", "data/bars", "--run-dir", "runs/first", "--epochs", "4", "--batch-size", "32"]
    out, _ = run(workspace, "train.py", *train, "--precision", "mixed_bfloat16", "--log-json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "note"] == [
        "resumed",
        "evaluation",
        "evaluation",
        "done",
    ]
    assert (workspace / "runs/first/history.csv").read_bytes() == before


def test_other_settings_in_the_same_run_directory_are_refused(workspace):
    train = ["--data", "data/bars", "--run-dir", "runs/first", "--epochs", "4", "--batch-size", "64"]
    _, err = run(workspace, "train.py", *train, "--precision", "mixed_bfloat16", expect=2)
    assert err.startswith("error: runs/first holds a run with other settings (batch_size 32 -> 64; learning_rate")
    assert err.count("\n") == 1


def test_sigterm_leaves_a_checkpoint_that_the_same_command_resumes_from(workspace):
    command = ["--data", "data/bars", "--run-dir", "runs/stopped", "--epochs", "400", "--batch-size", "32"]
    arguments = [sys.executable, ROOT / "train.py", *command, "--schedule", "constant", "--log-json"]
    process = subprocess.Popen(arguments, cwd=workspace, stdout=subprocess.PIPE, text=True)
    try:
        first = next(line for line in process.stdout if '"epoch"' in line)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert json.loads(first)["epoch"] == 1
    (stopped,) = [event for event in map(json.loads, rest.splitlines()) if event["event"] == "stopped"]
    assert stopped["signal"] == signal.SIGTERM
    reached = len(list(csv.DictReader((workspace / "runs/stopped/history.csv").open())))
    command[command.index("400")] = str(reached + 1)
    out, _ = run(workspace, "train.py", *command, "--schedule", "constant", "--log-json")
    events = [json.loads(line) for line in out.splitlines()]
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert resumed["global_step"] == stopped["global_step"]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [reached + 1]


@pytest.mark.parametrize("tool", TOOLS)
def test_help_and_version_answer_without_importing_tensorflow(tool, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    assert run(tmp_path, tool, "--help", env=environment)[0].startswith("usage: ")
    assert run(tmp_path, tool, "--version", env=environment)[0].split()[-1] == pipeline.__version__


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train.py", "--data", "nowhere"], "error: nowhere: no manifest.json here"),
        (["train.py", "--data", "nowhere", "--epochs", "0"], "error: --epochs 0: it must be at least 1"),
        (["tools/csv_to_tfrecord.py", "--split", "train=no.csv", "--out", "o"], "error: no.csv: "),
        (["tools/predict.py", "--run", "no", "--csv", "no.csv", "--out", "s.csv"], "error: no: "),
        (["tools/inspect_tfrecord.py", "show", "nowhere"], "error: nowhere: no manifest.json here"),
        (["tools/benchmark.py", "train", "--data", "nowhere"], "error: nowhere: no manifest.json here"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, command, message):
    _, err = run(tmp_path, *command, expect=2)
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_training_works_with_all_standard_streams_closed(workspace):
    def close_streams():
        for descriptor in range(3):
            os.close(descriptor)

    train = ["--data", "data/bars", "--run-dir", "runs/silent", "--epochs", "1", "--batch-size", "32"]
    command = [sys.executable, ROOT / "train.py", *train]
    done = subprocess.run(command, cwd=workspace, preexec_fn=close_streams, check=False)  # noqa: PLW1509
    assert done.returncode == 0
    assert len((workspace / "runs/silent/history.csv").read_text().splitlines()) == 2
    assert (workspace / "runs/silent/model.keras").is_file()


def test_a_fresh_start_in_the_current_directory_is_one_line(workspace):
    folder = workspace / "runs/first"
    before = sorted(path.name for path in folder.iterdir())
    _, err = run(folder, "train.py", "--data", "../../data/bars", "--run-dir", ".", "--fresh", expect=2)
    assert err == "error: .: --fresh cannot rename the current directory; choose another --run-dir\n"
    assert sorted(path.name for path in folder.iterdir()) == before
