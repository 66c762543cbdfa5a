import csv
import json
import random
import re
import tempfile

import pytest

from pipeline.errors import InputError
from tests.helpers.small_run import TINY, SmallRun
from tools import prove_resume
from tools.prove_resume import NotProven, Run, _compare, differences, kill_schedule, max_weight_difference, newest_step


@pytest.mark.parametrize("kills", [1, 5, 100])
def test_kills_are_spread_over_the_whole_run(kills):
    steps = kill_schedule(kills, 48, random.Random(1))
    assert (steps.count(0), steps.count(48), len(steps)) == (kills // 5, kills // 5, kills)
    training = [step for step in steps if step not in (0, 48)]
    assert steps[0] == training[0]
    assert training == sorted(training)
    assert 1 <= training[0] <= training[-1] <= 40
    if kills == 100:
        assert training[0] <= 4 and training[-1] >= 36


def test_differences_name_what_differs_and_ignore_times(digits, tmp_path):
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        state = SmallRun(digits, tmp_path / name, epochs=1, seed=seed).fit()
        (tmp_path / name / "evaluation.json").write_text("{}")
        with (tmp_path / name / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, state.history[0])
            writer.writeheader()
            writer.writerows(state.history)
    first, same, other = (tmp_path / name for name in ("first", "same", "other"))
    assert newest_step(first) == 13
    assert (differences(first, same), max_weight_difference(first, same)) == ([], 0)
    assert max_weight_difference(first, other) > 0.01
    for exact, names in ((True, "weights, optimizer, history"), (False, "weights")):
        with pytest.raises(NotProven, match=f"^{names} DIFFER"):
            _compare(Run(tmp_path, "other", 1, 0), Run(tmp_path, "first", 1, 0), exact)
    (same / "evaluation.json").write_text('{"val": 1}')
    assert differences(first, same) == ["evaluation"]


TINY_NETWORK = f"--model {TINY} --augment none --ema 0"

# A stand-in for train.py that writes a checkpoint, prints events and the beginning of one more, and ends.
PROGRAM = """
import pathlib, sys
(run_dir,) = (word.partition("=")[2] for word in sys.argv if word.startswith("--run-dir="))
folder = pathlib.Path(run_dir, "checkpoints")
folder.mkdir(parents=True, exist_ok=True)
(folder / "checkpoint-{step:09d}.npz").touch()
print({out!r})
sys.exit({code!r})
"""
AUDITS = [{"event": "audit", "epoch": epoch, "complete": True} for epoch in (1, 2)]


@pytest.fixture
def finish(monkeypatch, tmp_path):
    """Finish a run of two epochs by a start of train.py that writes these events and then a checkpoint of `step`."""
    monkeypatch.setattr(prove_resume, "ROOT", tmp_path)
    run = Run(tmp_path, "killed 1", epochs=2, seed=0)

    def finish(*events, step=32, code=0):
        out = "\n".join(map(json.dumps, events)) + "\n{cut"
        (tmp_path / "train.py").write_text(PROGRAM.format(out=out, step=step, code=code))
        run.finish()

    return finish


def test_a_run_is_complete_when_its_starts_audited_every_epoch(finish):
    with pytest.raises(NotProven, match=r"epochs \[2\] were not audited as complete"):
        finish(AUDITS[0], {**AUDITS[1], "complete": False}, step=16)
    finish({"event": "resumed", "global_step": 16}, AUDITS[1])


@pytest.mark.parametrize("event", [{"event": "note"}, {"event": "resumed", "global_step": 14}])
def test_a_start_that_does_not_resume_at_the_newest_checkpoint_is_not_proven(finish, event):
    with pytest.raises(NotProven, match="not audited"):
        finish(step=16)
    with pytest.raises(NotProven, match=r"start 2 resumed at step \[.*\]; the newest checkpoint is of step 16"):
        finish(event, *AUDITS)


def test_a_failed_proof_shows_the_error_and_keeps_its_folder(finish, monkeypatch, tmp_path, capsys):
    with pytest.raises(NotProven, match="start 1 ended with exit code 1: error: no space"):
        finish(*AUDITS, code="error: no space")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert prove_resume.main([]) == 1
    (folder,) = tmp_path.glob("prove-resume-*")
    assert f"exit code 1: error: no space; data and runs are in {folder}" in capsys.readouterr().out
    assert (folder / "unbroken-start-1.err").read_text() == "error: no space\n"


def test_a_training_killed_and_resumed_is_proven(capfd, monkeypatch):
    # The proof's network has normalization and augmentation, as test_survival.py's; compiling them takes most of it.
    monkeypatch.setattr(prove_resume, "_SETTINGS", re.sub("--model [^ ]*", TINY_NETWORK, prove_resume._SETTINGS))
    assert prove_resume.main(["--kills", "1"]) == 0
    out = capfd.readouterr().out
    assert "unbroken, start 1: ended at step 48" in out
    assert "killed 1: identical bit for bit after 1 kill" in out
    assert "on 2 replicas: weights within " in out
    assert out.endswith("PROVEN: the kills changed nothing\n")


@pytest.mark.parametrize("argv", [["--kills", "0"], ["--runs", "0"], ["--seed", "-1"]])
def test_invalid_numbers_are_refused(argv):
    with pytest.raises(InputError, match=f"^{' '.join(argv)}: must be at least"):
        prove_resume.main(argv)
