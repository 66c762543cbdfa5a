"""Whole runs on a GPU: killed and resumed, and used on a machine without one."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline.train.progress import StopRequested
from tests.helpers import faults
from tests.helpers.small_run import SmallRun, StopAfter, assert_same_weights

pytestmark = pytest.mark.gpu
_SECONDS = 100


@pytest.fixture(scope="module")
def killed_run(digits, tmp_path_factory):
    """A run directory whose training was killed inside an epoch and resumed, and the events of the resumed start."""
    run = tmp_path_factory.mktemp("gpu") / "run"
    settings = ["--recipe", "tutorial", "--batch-size", "16", "--epochs", "20"]
    settings += ["--steps-per-call", "4", "--checkpoint-every", "4"]
    command = [sys.executable, "train.py", "--data", str(digits), "--run-dir", str(run), "--log-json", *settings]
    with subprocess.Popen(command, cwd=faults.ROOT, stdout=subprocess.DEVNULL) as training:
        end = time.monotonic() + _SECONDS
        while not any(int(path.stem[-9:]) % 13 for path in run.glob("checkpoints/checkpoint-*.npz")):
            assert time.monotonic() < end and training.poll() is None
            time.sleep(0.01)
        training.send_signal(signal.SIGKILL)
    done = subprocess.run(command, cwd=faults.ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return run, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_killed_run_resumes_inside_an_epoch_and_learns(killed_run):
    run, events = killed_run
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert resumed["global_step"] > 0
    last = [event for event in events if event["event"] == "epoch"][-1]
    assert last["epoch"] == 20 and last["val_accuracy"] > 0.9


def test_a_stopped_run_ends_as_an_uninterrupted_one(monkeypatch, digits, tmp_path):
    whole, stopper = SmallRun(digits, tmp_path / "whole"), StopAfter(2)
    expected = whole.fit().history
    with pytest.raises(StopRequested):
        SmallRun(digits, tmp_path / "stopped").fit([stopper], stopper.signal)
    last = SmallRun(digits, tmp_path / "stopped")
    history = last.fit().history
    assert_same_weights(whole, last, tolerance=1e-4)
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in expected], abs=1e-4)


def test_results_of_a_gpu_run_are_used_on_a_machine_without_one(killed_run, digits, tmp_path):
    run, _ = killed_run
    without = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "images = tf.cast(tf.reshape(tf.range(10 * 64) % 251, (10, 8, 8, 1)), tf.uint8)\n"
        "assert not tf.config.list_physical_devices('GPU')\n"
        "output = tf.saved_model.load(sys.argv[1]).signatures['serving_default'](images)\n"
        "print({name: value.shape.as_list() for name, value in output.items()})"
    )
    for arguments in (
        ["tools/predict.py", "--run", run, "--data", digits, "--split", "test", "--out", tmp_path / "cpu.csv"],
        ["-c", code, run / "saved_model"],
    ):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=faults.ROOT, env=without, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    from tools import predict

    predict.main([*map(str, ["--run", run, "--data", digits, "--split", "test", "--out", tmp_path / "gpu.csv"])])
    rows = [np.loadtxt(tmp_path / name, delimiter=",", skiprows=1) for name in ("cpu.csv", "gpu.csv")]
    np.testing.assert_array_equal(*rows)
