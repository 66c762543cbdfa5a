import csv
import errno
import fcntl
import json
import os
import pathlib

import pytest

from pipeline.errors import InputError
from pipeline.train.run_dir import COLUMNS, RunDirectory


def config(**identity):
    return {"identity": {"seed": 0, **identity}, "settings": {}}


@pytest.fixture
def run(tmp_path):
    with RunDirectory(tmp_path / "run") as made:
        yield made


def test_a_new_directory_is_claimed_and_the_same_run_again(run):
    run.claim(config())
    run.claim(config())
    assert json.loads((run.path / "config.json").read_text()) == config()


def test_other_settings_are_refused_with_the_differences(run):
    run.claim(config(batch_size=64))
    with pytest.raises(InputError, match=r"other settings \(batch_size 64 -> 32\); .* --fresh"):
        run.claim(config(batch_size=32))


def test_a_number_that_came_to_another_is_said_as_it_was_given(run):
    run.claim(config(steps_per_call=6))
    given = {"seed": 0, "steps_per_call": 8, "epochs": 6}
    with pytest.raises(InputError, match=r"\(steps_per_call 6 -> 7 \(from --steps-per-call 8\)\); give"):
        run.claim({**config(steps_per_call=7), "settings": given})


def test_another_order_is_no_setting_that_could_be_given_again(run):
    run.claim(config(order="5479e789"))
    with pytest.raises(InputError, match="in another order than this version .* NumPy, draws; go on with the"):
        run.claim(config(order="00000000"))


def test_a_directory_that_is_something_else_is_left_alone(run):
    run.path.mkdir()
    (run.path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not a run directory"):
        run.claim(config())
    assert [path.name for path in run.path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense"])
def test_a_config_that_is_not_ours_is_refused(run, content):
    run.path.mkdir()
    (run.path / "config.json").write_text(content)
    with pytest.raises(InputError, match="not a run's configuration"):
        run.claim(config())


def test_a_worker_that_does_not_write_leaves_nothing(run):
    run.check(config())
    assert not run.path.exists()


@pytest.mark.parametrize("damage", [None, "", "{}"], ids=["whole", "empty", "no identity"])
def test_a_fresh_start_renames_an_earlier_run_and_deletes_nothing(run, damage):
    run.claim(config(seed=1))
    if damage is not None:
        (run.path / "config.json").write_text(damage)
    before = (run.path / "config.json").read_text()
    for number in (1, 2):
        aside = pathlib.Path(f"{run.path}.old-{number}")
        assert run.claim(config(seed=2), fresh=True) == [f"the earlier run is now {aside}"]
        assert (pathlib.Path(f"{run.path}.old-1") / "config.json").read_text() == before
    assert json.loads((run.path / "config.json").read_text()) == config(seed=2)


def test_a_fresh_start_where_there_is_no_run_moves_nothing(run):
    assert run.claim(config(), fresh=True) == []
    other = RunDirectory(run.path.with_name("thesis"))
    other.path.mkdir()
    (other.path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not a run directory"):
        other.claim(config(), fresh=True)
    assert [path.name for path in other.path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_second_training_in_the_directory_is_refused(run, fresh):
    run.claim(config())
    before = (run.path / "config.json").stat()
    with RunDirectory(run.path) as second, pytest.raises(InputError, match="run: another process trains in it; wait"):
        second.claim(config(), fresh)
    assert (run.path / "config.json").stat() == before
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]


def test_a_run_that_was_set_aside_keeps_no_lock_on_the_new_one(run):
    run.claim(config())
    run.claim(config(seed=2), fresh=True)
    with RunDirectory(run.path) as second, pytest.raises(InputError, match="another process trains in it"):
        second.claim(config(seed=2))
    RunDirectory(f"{run.path}.old-1").claim(config())


def test_the_directory_is_free_once_its_run_has_ended(run):
    with run:
        run.claim(config())
    with RunDirectory(run.path) as second:
        second.claim(config())


def test_a_file_system_without_locks_is_said_and_used(run, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run.claim(config()) == [f"{run.path}: this file system knows no locks; start no second training in it"]
    assert run.identity() == config()["identity"]


def test_what_a_killed_run_left_is_removed(run):
    run.claim(config())
    (run.path / "checkpoints").mkdir()
    for name in (".history.partial-0123abcd.csv", "checkpoints/.best.partial-0123abcd.npz"):
        (run.path / name).touch()
    (run.path / ".saved_model.partial-0123abcd").mkdir()
    run.claim(config())
    left = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
    assert left == {".lock", "config.json", "checkpoints"}


def test_other_versions_are_said(run):
    run.claim({**config(), "versions": {"tensorflow": "2.20.0", "keras": "3.15.1"}})
    remarks = run.claim({**config(), "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"}})
    assert remarks == ["other versions than before (tensorflow 2.20.0 -> 2.21.0); figures may differ from here on"]


def test_history_has_a_row_an_epoch_and_leaves_missing_figures_empty(run):
    run.path.mkdir()
    run.write_history([{"epoch": 1, "step": 13, "loss": 0.5, "accuracy": 0.75}])
    rows = list(csv.DictReader((run.path / "history.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["loss"], rows[0]["val_loss"]) == ("0.5", "")
