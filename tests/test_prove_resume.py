import csv
import json
import random
import signal
import sys
import tempfile

import pytest

from pipeline.errors import InputError
from tests.helpers.commands import WatchedCommand
from tests.helpers.small_run import SmallRun
from tools import prove_resume
from tools.prove_resume import NotProven, Run, _compare, differences, kill_schedule, max_weight_difference, newest_step


@pytest.mark.parametrize("kills", [1, 5, 100])
def test_kills_are_spread_over_the_whole_run(kills):
    steps = kill_schedule(kills, 48, random.Random(1))
    assert steps == kill_schedule(kills, 48, random.Random(1))
    assert (steps.count(0), steps.count(48), len(steps)) == (kills // 5, kills // 5, kills)
    training = [step for step in steps if step not in (0, 48)]
    assert steps[0] == training[0]
    assert training == sorted(training)
    assert 1 <= training[0] <= training[-1] <= 40
    if kills == 100:
        assert training[0] <= 4 and training[-1] >= 36


def test_differences_name_what_differs_and_ignore_times(monkeypatch, digits, tmp_path):
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        state = SmallRun(monkeypatch, digits, tmp_path / name, epochs=1, seed=seed).fit()
        (tmp_path / name / "evaluation.json").write_text("{}")
        with (tmp_path / name / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, state.history[0])
            writer.writeheader()
            writer.writerows(state.history)
    first, same, other = (tmp_path / name for name in ("first", "same", "other"))
    assert newest_step(first) == 13
    assert differences(first, same) == []
    assert max_weight_difference(first, same) == 0
    assert differences(first, other) == ["weights", "optimizer", "history"]
    assert max_weight_difference(first, other) > 0.01
    with pytest.raises(NotProven, match="weights, optimizer, history DIFFER"):
        _compare(Run(tmp_path, "other", 1, 0), Run(tmp_path, "first", 1, 0), exact=True)
    with pytest.raises(NotProven, match="weights DIFFER"):
        _compare(Run(tmp_path, "other", 1, 0), Run(tmp_path, "first", 1, 0), exact=False)
    (same / "evaluation.json").write_text('{"val": 1}')
    assert differences(first, same) == ["evaluation"]


class Starts:
    """A stand-in for train.py that prints these events, writes a checkpoint of `step`, and ends with `code`."""

    PROGRAM = (
        "import pathlib, sys\n"
        "arguments = dict(zip(sys.argv, sys.argv[1:]))\n"
        "folder = pathlib.Path(arguments['--run-dir'], 'checkpoints')\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "(folder / 'checkpoint-{step:09d}.npz').touch()\n"
        "print({out!r})\n"
        "sys.exit({code!r})\n"
    )

    def __init__(self, monkeypatch, tmp_path) -> None:
        self._root = tmp_path / "root"
        self._root.mkdir()
        monkeypatch.setattr(prove_resume, "ROOT", self._root)
        self.run = Run(tmp_path, "killed 1", epochs=2, seed=0)

    def write(self, *events, step=32, code=0):
        out = "\n".join(map(json.dumps, events)) + "\n{cut"
        (self._root / "train.py").write_text(self.PROGRAM.format(out=out, step=step, code=code))

    def finish(self, *events, **options):
        self.write(*events, **options)
        self.run.finish()


@pytest.fixture
def starts(monkeypatch, tmp_path):
    return Starts(monkeypatch, tmp_path)


AUDITS = [{"event": "audit", "epoch": epoch, "complete": True} for epoch in (1, 2)]


def test_a_run_is_complete_when_its_starts_audited_every_epoch(starts):
    with pytest.raises(NotProven, match=r"epochs \[2\] were not audited as complete"):
        starts.finish(AUDITS[0], {**AUDITS[1], "complete": False}, step=16)
    starts.finish({"event": "resumed", "global_step": 16}, AUDITS[1])


@pytest.mark.parametrize("event", [{"event": "note"}, {"event": "resumed", "global_step": 14}])
def test_a_start_that_does_not_resume_at_the_newest_checkpoint_is_not_proven(starts, event):
    with pytest.raises(NotProven, match="not audited"):
        starts.finish(step=16)
    with pytest.raises(NotProven, match=r"start 2 resumed at step \[.*\]; the newest checkpoint is of step 16"):
        starts.finish(event, *AUDITS)


def test_a_start_that_fails_is_not_proven_and_its_error_is_shown(starts):
    with pytest.raises(NotProven, match="start 1 ended with exit code 1: error: no space"):
        starts.finish(*AUDITS, code="error: no space")


def test_a_training_killed_and_resumed_is_proven(capfd):
    assert prove_resume.main(["--kills", "1"]) == 0
    out = capfd.readouterr().out
    assert "killed 1: identical bit for bit after 1 kill" in out
    assert "on 2 replicas: weights within " in out
    assert out.endswith("PROVEN: the kills changed nothing\n")
    assert "unbroken, start 1: ended at step 48" in out


def test_a_failed_proof_keeps_its_folder_and_exits_with_1(starts, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    starts.write(code="error: no space")
    assert prove_resume.main([]) == 1
    (folder,) = tmp_path.glob("prove-resume-*")
    assert f"exit code 1: error: no space; data and runs are in {folder}" in capsys.readouterr().out
    assert (folder / "unbroken-start-1.err").read_text() == "error: no space\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--kills", "0"], "--kills 0: must be from 1 to 10,000"),
        (["--kills", "10001"], "--kills 10001: must be from 1 to 10,000"),
        (["--runs", "0"], "--runs 0: must be from 1 to 10,000"),
        (["--seed", "-1"], "--seed -1: must be from 0"),
    ],
)
def test_bad_arguments_are_refused(argv, message):
    with pytest.raises(InputError, match=message):
        prove_resume.main(argv)


# ---- tests/helpers/commands.py --------------------------------------------------------------------------------------


def test_a_kill_reaches_what_the_command_started(tmp_path):
    child = "import pathlib, time; time.sleep(2); pathlib.Path('alive').touch()"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); print(1, flush=True)"
    with WatchedCommand([sys.executable, "-c", code + "; time.sleep(60)"], cwd=tmp_path) as command:
        command.wait_until(lambda: command.lines)
    # Reading its output ended, so no process holds the other end any more.
    assert command.killed
    assert list(tmp_path.iterdir()) == []


def test_a_command_reports_its_exit_code_and_signal():
    with WatchedCommand([sys.executable, "-c", "raise SystemExit('no')"]) as command:
        assert (command.wait(), command.err, command.killed) == (1, "no\n", False)
    with WatchedCommand([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]) as command:
        assert command.wait_until(lambda: command.out)
        command.send(signal.SIGTERM)
        assert command.wait() == -signal.SIGTERM
