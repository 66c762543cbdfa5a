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

from tests.helpers.datasets import bars, write_csv

ROOT = pathlib.Path(__file__).parent.parent
TOOLS = ["train.py", *sorted(f"tools/{path.name}" for path in (ROOT / "tools").glob("[a-z]*.py"))]


def run(folder, *command, expect=0, **options):
    """Run `python COMMAND` in `folder`; returns (stdout, stderr)."""
    script, *arguments = map(str, command)
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout, done.stderr


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


def test_a_run_directory_holds_all_that_it_promises(workspace):
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


def test_the_submission_has_a_right_label_for_most_rows(workspace):
    rows = list(csv.DictReader((workspace / "submission.csv").open()))
    assert [row["id"] for row in rows] == [str(k) for k in range(40)]
    labels = bars(range(300, 340))[1]
    assert np.mean([int(row["label"]) for row in rows] == labels) > 0.8


def test_show_prints_the_splits(workspace):
    out, _ = run(workspace, "tools/inspect_tfrecord.py", "show", "data/bars")
    assert all(word in out for word in ("bars", "train", "val", "test", "270", "30", "40"))


def test_the_same_command_again_trains_no_more(workspace):
    before = (workspace / "runs/first/history.csv").read_bytes()
    train = ["--data", "data/bars", "--run-dir", "runs/first", "--epochs", "4", "--batch-size", "32"]
    out, _ = run(workspace, "train.py", *train, "--precision", "mixed_bfloat16", "--log-json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "note"] == ["evaluation", "evaluation", "done"]
    assert (workspace / "runs/first/history.csv").read_bytes() == before


def test_other_settings_in_the_same_run_directory_are_one_line_and_exit_code_2(workspace):
    train = ["--data", "data/bars", "--run-dir", "runs/first", "--epochs", "4", "--batch-size", "64"]
    _, err = run(workspace, "train.py", *train, "--precision", "mixed_bfloat16", expect=2)
    assert err.startswith("error: runs/first holds a run with other settings (batch_size 32 -> 64; learning_rate")
    assert err.count("\n") == 1


def test_sigterm_leaves_a_checkpoint_that_the_same_command_goes_on_from(workspace):
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
    assert "the same command goes on from there" in rest
    reached = len(list(csv.DictReader((workspace / "runs/stopped/history.csv").open())))
    command[command.index("400")] = str(reached + 1)
    out, _ = run(workspace, "train.py", *command, "--schedule", "constant", "--log-json")
    events = [json.loads(line) for line in out.splitlines()]
    assert any(event["text"].startswith("resumed at epoch") for event in events)
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [reached + 1]


@pytest.mark.parametrize("tool", TOOLS)
def test_help_answers_without_importing_tensorflow(tool, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    out, _ = run(tmp_path, tool, "--help", env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert out.startswith("usage: ")


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


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("return 3", 3, ""),
        ("raise errors.InputError('wrong')", 2, "error: wrong\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, ""),
        ("raise KeyboardInterrupt", 130, "error: interrupted\n"),
    ],
    ids=["a code", "a mistake", "SIGTERM", "Ctrl-C"],
)
def test_a_tool_that_ends_at_once_waits_for_nobody_and_loses_no_word(end, code, said):
    lines = ["import atexit, os, signal, time", "from pipeline import errors", "atexit.register(time.sleep, 600)"]
    lines += ["def main(_):", "    print('measured')", f"    {end}", "errors.run_command(main, at_once=True)"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "measured\n", said)
