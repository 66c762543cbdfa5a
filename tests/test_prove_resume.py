import json
import random
import sys

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.dataset import Position
from pipeline.prove.conversion import prove_conversion
from pipeline.prove.evidence import Ending, Ledger, hash_directory, newest_step
from pipeline.prove.instants import REPORT, STARTUP, TRAINING, draw_instants
from pipeline.prove.results import Proof, Row, Start
from pipeline.train import setup
from pipeline.watched import WatchedCommand
from tests.helpers import faults
from tests.helpers.small_run import SmallRun
from tools import prove_resume


@pytest.mark.parametrize("kills", [1, 5, 100])
def test_instants_are_spread_over_the_whole_run(kills):
    found = draw_instants(kills, 40, random.Random(1))
    assert found == draw_instants(kills, 40, random.Random(1)) != draw_instants(kills, 40, random.Random(2))
    phases = [instant.phase for instant in found]
    assert (phases.count(STARTUP), phases.count(REPORT), len(phases)) == (kills // 5, kills // 5, kills)
    assert phases[0] == TRAINING
    steps = [instant.step for instant in found if instant.phase == TRAINING]
    assert steps == sorted(steps)
    assert all(1 <= step <= 40 for step in steps)
    if kills == 100:
        assert steps[0] <= 4
        assert steps[-1] >= 36


def test_the_ledger_is_what_the_feed_serves(monkeypatch, digits, tmp_path):
    run = SmallRun(monkeypatch, digits, tmp_path, steps_per_call=1, seed=7)
    ledger = Ledger(digits, batch_size=16, seed=7)
    feed = setup.make_feeds(run.resolved, run.devices).train(Position(0, 0, 2))
    for step, element in enumerate(feed):
        rows = element["replicas"][0]["index"].numpy().ravel()
        np.testing.assert_array_equal(ledger.ids(step), rows[rows >= 0])  # without an id column, ids are row numbers
    assert step + 1 == 2 * ledger.steps_per_epoch == 26
    assert sorted(id for step in range(13) for id in ledger.ids(step)) == list(range(203))


def test_the_ledger_tells_a_step_that_is_lost_doubled_or_moved(digits):
    ledger = Ledger(digits, batch_size=16, seed=0)
    whole = ledger.sha256([range(26)])
    assert ledger.sha256([range(5), range(5, 5), range(5, 26)]) == whole
    for wrong in ([range(5), range(6, 26)], [range(6), range(5, 26)], [range(5, 26), range(5)]):
        assert ledger.sha256(wrong) != whole


def test_an_ending_tells_runs_apart_and_not_their_times(monkeypatch, digits, tmp_path):
    endings = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        SmallRun(monkeypatch, digits, tmp_path / name, epochs=1, seed=seed).fit()
        (tmp_path / name / "evaluation.json").write_text("{}")
        endings[name] = Ending.read(tmp_path / name)
    assert newest_step(tmp_path / "one") == 13
    assert endings["one"].hashes() == endings["same"].hashes()
    assert endings["one"].farthest_weight(endings["same"]) == 0
    one, other = endings["one"].hashes(), endings["other"].hashes()
    assert [part for part in one if one[part] == other[part]] == ["evaluation"]
    assert endings["one"].farthest_weight(endings["other"]) > 0.01


def test_a_directory_hash_tells_bytes_and_names(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    before = hash_directory(tmp_path)
    faults.swap(tmp_path / "a", tmp_path / "b")
    assert hash_directory(tmp_path) != before
    faults.swap(tmp_path / "a", tmp_path / "b")
    assert hash_directory(tmp_path) == before
    faults.flip_bit(tmp_path / "a", 1)
    assert hash_directory(tmp_path) != before


def test_a_kill_takes_what_the_command_started_too(tmp_path):
    child = "import pathlib, time; time.sleep(2); pathlib.Path('alive').touch()"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); print(1, flush=True)"
    with WatchedCommand([sys.executable, "-c", code + "; time.sleep(60)"], cwd=tmp_path) as command:
        command.wait_until(lambda: command.lines)
    # Reading its output ended, and so nobody holds the other end any more.
    assert command.killed
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_end_is_killed_in_time():
    with WatchedCommand([sys.executable, "-c", "import time; time.sleep(60)"]) as command:
        command.wait_at_most(0.1)
        assert command.killed
    with WatchedCommand([sys.executable, "-c", "raise SystemExit(3)"]) as command:
        assert command.wait_at_most(60) == 3


def test_conversions_killed_and_repeated_are_proven(tmp_path, capsys):
    keep, found = tmp_path / "kept", tmp_path / "found.json"
    command = ["--what", "convert", "--kills", "3", "--keep", str(keep), "--json", str(found)]
    assert prove_resume.main(command) == 0
    assert "PROVEN: 3 kill(s) changed nothing" in capsys.readouterr().out
    proof = json.loads(found.read_text())
    assert [row["kills"] for row in proof["rows"]] == [0, 3]
    assert [start["killed"] for start in proof["rows"][1]["starts"]].count(True) == 3
    assert hash_directory(keep / "unbroken" / "data") == proof["rows"][1]["found"]["SHA-256 of all"]


def test_a_conversion_that_ends_otherwise_is_not_proven(tmp_path, capsys):
    def change_the_source(_):
        with (tmp_path / "train.csv").open("a") as file:
            file.write("3" + ",0" * 784 + "\n")

    proof = prove_conversion(tmp_path, kills=2, runs=1, seed=1, say=change_the_source)
    assert (proof.proven, [row.proven for row in proof.rows]) == (False, [True, False])
    proof.print()
    out = capsys.readouterr().out
    assert "DIFFERENT" in out
    assert "NOT PROVEN: 1 run(s) differ" in out


def test_a_start_that_fails_is_said_and_not_proven(tmp_path):
    def lose_a_source(_):
        (tmp_path / "test.csv").unlink(missing_ok=True)

    proof = prove_conversion(tmp_path, kills=2, runs=1, seed=1, say=lose_a_source)
    assert not proof.proven
    assert "ended with exit code 2: error: " in proof.rows[1].verdict


def test_a_training_killed_and_resumed_is_proven(tmp_path, capsys):
    found = tmp_path / "found.json"
    assert prove_resume.main(["--kills", "1", "--json", str(found)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("unbroken", "killed 1", "on 2 replicas", "ids ledger", "weights", "identical"))
    whole, killed, other = json.loads(found.read_text())["rows"]
    assert [row["kills"] for row in (whole, killed, other)] == [0, 1, 1]
    assert killed["found"] == whole["found"]
    assert other["found"]["ids ledger"] == whole["found"]["ids ledger"]
    assert whole["found"]["audited"] == "3 epochs"
    assert "PROVEN: 1 kill(s) changed nothing" in out
    (first, end), (again, last) = (start["steps"] for start in killed["starts"])
    assert (first, again, last) == (0, end, 48)
    assert 0 < end < 48


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--kills", "0"], "--kills 0: it must be from 1 to 10,000"),
        (["--kills", "10001"], "--kills 10001: it must be from 1 to 10,000"),
        (["--runs", "0"], "--runs 0: it must be from 1 to 10,000"),
        (["--seed", "-1"], "--seed -1: it must be from 0"),
        (["--json", "no/where.json"], "there is no directory no; create it first"),
        (["--json", "."], "--json .: it is a directory"),
        (["--keep", "."], "--keep .: it is there and not an empty directory"),
    ],
)
def test_bad_arguments_are_refused(argv, message):
    with pytest.raises(InputError, match=message):
        prove_resume.main(argv)


def test_a_table_has_a_row_a_run(capsys):
    starts = [Start(True, "killed", 1.0, range(4)), Start(False, "done", 2.0, range(4, 9))]
    rows = [Row("killed 1", starts, {"weights": "ab" * 32, "steps": "9"}, "identical", True)]
    proof = Proof("train", {"seed": 0}, rows)
    proof.print()
    line = next(line for line in capsys.readouterr().out.splitlines() if "killed 1" in line)
    assert line.split() == ["killed", "1", "2", "1", "abababab", "9", "identical"]
    assert json.loads(proof.to_json())["rows"][0]["starts"][1]["steps"] == [4, 9]
