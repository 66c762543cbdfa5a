"""train.py stopped and damaged in every way in turn: the same command resumes, and ends as if nothing had happened."""

import signal
import sys

from tests.helpers import faults
from tests.helpers.commands import WatchedCommand
from tools.prove_resume import differences, newest_step

# With calls of one step, checkpoints come after just so many steps.
SETTINGS = ["--epochs", "12", "--batch-size", "16", "--checkpoint-every", "5", "--steps-per-call", "1"]
SETTINGS += ["--precision", "float32"]


def train(digits, run_dir):
    return [sys.executable, faults.ROOT / "train.py", "--data", digits, "--run-dir", run_dir, *SETTINGS]


def interrupt_when(command, seen):
    """Send SIGINT, as Ctrl-C does, once `seen()` is true, and wait for the end."""
    with WatchedCommand(command) as process:
        assert process.wait_until(seen)
        process.send(signal.SIGINT)
        process.wait()
    return process


def files_of(run_dir):
    return {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*")}


def test_whatever_happens_a_run_ends_the_same_to_the_bit(digits, tmp_path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    done = faults.run(train(digits, whole))
    assert done.returncode == 0, done.err

    assert faults.kill_when(train(digits, run_dir), lambda: newest_step(run_dir) == 5).killed

    step = newest_step(run_dir)
    done = interrupt_when(train(digits, run_dir), lambda: newest_step(run_dir) > step + 20)
    assert done.returncode == 130, done.err
    assert f"resumed at epoch 1, step {step}" in done.out
    assert "run the same command to resume" in done.out

    newest = run_dir / "checkpoints" / f"checkpoint-{newest_step(run_dir):09d}.npz"
    faults.flip_bit(newest, byte=newest.stat().st_size // 2)
    faults.leave_stale_temporary(newest)
    done = faults.kill_when(train(digits, run_dir), (run_dir / "model.keras").exists)
    assert done.killed
    assert f"{newest}: corrupt (" in done.out

    done = faults.run(train(digits, run_dir))
    assert done.returncode == 0, done.err
    assert differences(run_dir, whole) == []
    assert files_of(run_dir) == files_of(whole)
