"""train.py stopped in every way in turn: the same command resumes, and ends as if nothing had happened."""

import json
import signal
import sys

import train
from tests.helpers import faults
from tests.helpers.commands import WatchedCommand
from tools.prove_resume import differences, newest_step

# With calls of one step, checkpoints come after just so many steps. Normalization, augmentation and averaged weights.
SETTINGS = [
    *("--model", "residual,width=4,pairs=0", "--augment", "none,rotation=10,speck=0.1", "--strategy", "one"),
    *("--epochs", "4", "--batch-size", "16", "--checkpoint-every", "5", "--steps-per-call", "1"),
    *("--precision", "float32", "--log-json"),
]


def arguments(digits, run_dir):
    return ["--data", str(digits), "--run-dir", str(run_dir), *SETTINGS]


def command(digits, run_dir):
    return [sys.executable, faults.ROOT / "train.py", *arguments(digits, run_dir)]


def event(process, name):
    (only,) = [line for line in map(json.loads, process.lines) if line["event"] == name]
    return only


def files_of(run_dir):
    return {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*")}


def test_stopped_killed_and_corrupted_run_ends_the_same_to_the_bit(digits, tmp_path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    assert train.main(arguments(digits, whole)) == 0

    with WatchedCommand(command(digits, run_dir)) as process:
        assert process.wait_until(lambda: newest_step(run_dir) >= 10), process.err
        process.send(signal.SIGINT)
        assert process.wait() == 130, process.err
    assert process.err == "stopping after this step, with a checkpoint; Ctrl-C again stops at once\n"
    stopped = event(process, "stopped")
    assert (stopped["signal"], stopped["global_step"]) == (signal.SIGINT, newest_step(run_dir))

    newest = run_dir / "checkpoints" / f"checkpoint-{newest_step(run_dir):09d}.npz"
    faults.cut(newest, newest.stat().st_size // 2)
    faults.leave_stale_temporary(newest)
    done = faults.kill_when(command(digits, run_dir), (run_dir / "model.keras").exists)
    assert done.killed
    assert f"{newest}: corrupt (" in done.out
    assert 0 < event(done, "resumed")["global_step"] < stopped["global_step"]

    done = faults.run(command(digits, run_dir))
    assert done.returncode == 0, done.err
    assert event(done, "resumed")["epoch"] == 5
    assert differences(run_dir, whole) == []
    assert files_of(run_dir) == files_of(whole)
