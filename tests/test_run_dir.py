import csv
import errno
import fcntl
import json
import os
import pathlib

import msgspec
import pytest

from pipeline.errors import InputError
from pipeline.feed.normalize import Normalization
from pipeline.train.run_dir import COLUMNS, RunDirectory
from pipeline.train.state import TrainState
from pipeline.train.stored import Identity
from tests.helpers import faults

IDENTITY = Identity(
    **{"data": "d", "batch_size": 16, "steps_per_call": 4, "seed": 0, "order": "5479e789", "network": "n"},
    **{"learning_rate": 0.1, "schedule": "cosine", "precision": "float32", "streamed": False},
    normalization=Normalization("standard", (1.5,), (2.0,)),
)
FEED = {"feed": {"feed": "host", "bytes_held": 5, "budget": 100}}


def identity(**changes):
    return msgspec.structs.replace(IDENTITY, **changes)


def claim(run, fresh=False, settings=None, **changes):
    return run.claim(identity(**changes), {**FEED, "settings": settings or {}}, fresh)[1]


@pytest.fixture
def run(tmp_path):
    with RunDirectory(tmp_path / "run") as directory:
        yield directory


def write_config(run, text):
    run.path.mkdir(exist_ok=True)
    (run.path / "config.json").write_text(text)


def test_a_new_directory_is_claimed_and_the_same_run_again(run):
    assert run.earlier() is None
    starts = [run.claim(IDENTITY, FEED)[0] for _ in range(2)]
    assert starts[0] != starts[1] == run.earlier().start
    assert run.earlier().identity == IDENTITY
    assert (run.earlier().feed.feed, run.earlier().feed.budget) == ("host", 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 32, "xla": True}, r"other settings \(batch_size 16 -> 32; xla False -> True\); .*--fresh"),
        ({"steps_per_call": 7}, r"\(steps_per_call 4 -> 7 \(from --steps-per-call 8\)\); give"),
        ({"holdout": "first:9"}, r"\(holdout not given -> first:9\)"),
        ({"schedule": "one-cycle", "epochs": 3}, r"\(schedule \S+ -> one-cycle\)"),
        ({"streamed": True, "memory_budget": 9}, r"\(feed in memory -> stream\)"),
        ({"normalization": Normalization()}, r"\(normalization standard -> unit\)"),
        ({"order": "00000000"}, "shuffled differently by another version .* of NumPy; resume with that"),
    ],
    ids=str,
)
def test_another_run_is_refused_with_the_differences(run, changes, message):
    claim(run)
    with pytest.raises(InputError, match=message):
        claim(run, settings={"steps_per_call": 8}, **changes)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_directory_that_is_something_else_is_left_alone(run, fresh):
    run.path.mkdir()
    (run.path / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists but is not a run directory"):
        claim(run, fresh)
    assert [path.name for path in run.path.iterdir()] == ["thesis.tex"]


VALID = {"identity": msgspec.to_builtins(IDENTITY), "feed": FEED["feed"], "start": "s"}


def edited(path, value):
    config = json.loads(json.dumps(VALID))
    *parents, last = path.split(".")
    place = config
    for name in parents:
        place = place[name]
    place[last] = value
    return json.dumps({**config, "data": {"image_shape": [28, 28, 1]}})


EDITED = [
    *("", "[]", "{}", "nonsense", '{"data": ' + "[" * 100_000, '{"data": {"image_shape": [Infinity]}}'),
    *(edited("identity", value) for value in ([1], None, "x", {})),
    *(edited(f"identity.{name}", "4") for name in ("steps_per_call", "batch_size", "seed", "learning_rate", "xla")),
    *(edited(f"identity.{name}", 7) for name in ("data", "precision", "schedule", "order", "network", "streamed")),
    *(edited(f"identity.{name}", -1) for name in ("steps_per_call", "epochs", "memory_budget")),
    edited("identity.steps_per_call", 10**30),
    edited("identity.learning_rate", float("nan")),
    *(edited("identity.normalization", value) for value in (None, [], {"kind": "odd"}, {"kind": "standard"})),
    edited("identity.more", 1),
    *(edited("feed", value) for value in ([], "host", {"feed": "other", "budget": 1}, {"feed": "host", "budget": 0})),
    edited("start", 5),
]


@pytest.mark.parametrize("text", EDITED, ids=range(len(EDITED)))
def test_an_edited_config_is_one_line(run, text):
    write_config(run, text)
    for read in (run.earlier, lambda: claim(run)):
        with pytest.raises(InputError, match=r"config.json: not a run's configuration \([^\n]*\); choose another"):
            read()


@pytest.mark.parametrize("text", [None, "", "{}"], ids=["valid", "empty", "no identity"])
def test_a_fresh_start_renames_an_earlier_run_and_deletes_nothing(run, text):
    claim(run, seed=1)
    if text is not None:
        write_config(run, text)
    before = (run.path / "config.json").read_text()
    for number in (1, 2):
        aside = pathlib.Path(f"{run.path}.old-{number}")
        assert claim(run, fresh=True, seed=2) == [f"the earlier run is now {aside}"]
        assert (pathlib.Path(f"{run.path}.old-1") / "config.json").read_text() == before
    assert run.earlier().identity == identity(seed=2)


def test_a_fresh_start_in_the_current_directory_is_refused_before_anything_happens(run, monkeypatch):
    claim(run)
    before = sorted(run.path.parent.rglob("*"))
    monkeypatch.chdir(run.path)
    here = RunDirectory(pathlib.Path())
    with pytest.raises(InputError, match=r"^\.: --fresh cannot rename the current directory"):
        claim(here, fresh=True)
    assert sorted(run.path.parent.rglob("*")) == before


@pytest.mark.parametrize("fresh", [False, True])
def test_a_second_training_in_the_directory_waits_for_its_end(run, fresh):
    assert claim(run, fresh=True) == []
    before = (run.path / "config.json").stat().st_mtime_ns
    with RunDirectory(run.path) as second, pytest.raises(InputError, match="run: another process trains in it; wait"):
        claim(second, fresh)
    assert (run.path / "config.json").stat().st_mtime_ns == before
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]
    with run:
        pass
    with RunDirectory(run.path) as second:
        claim(second)


def test_a_run_that_was_set_aside_keeps_no_lock_on_the_new_one(run):
    claim(run)
    claim(run, fresh=True, seed=2)
    with RunDirectory(run.path) as second, pytest.raises(InputError, match="another process trains in it"):
        claim(second, seed=2)
    with RunDirectory(pathlib.Path(f"{run.path}.old-1")) as old:
        claim(old)


def test_a_file_system_without_locks_is_reported_and_used(run, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = "file locking is not supported here; do not run two trainings in this directory"
    assert claim(run) == [f"{run.path}: {message}"]
    assert run.earlier().identity == IDENTITY


def test_what_a_killed_run_left_is_removed(run):
    claim(run)
    (run.path / "checkpoints").mkdir()
    for name in ("history.csv", "checkpoints/best.npz"):
        faults.leave_stale_temporary(run.path / name)
    claim(run)
    left = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
    assert left == {".lock", "config.json", "checkpoints"}


def test_history_has_a_row_per_epoch_and_leaves_missing_figures_empty(run):
    run.path.mkdir()
    run.write_history(TrainState(history=[{"epoch": 1, "step": 13, "loss": 0.5, "accuracy": 0.75}]))
    rows = list(csv.DictReader((run.path / "history.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["loss"], rows[0]["val_loss"]) == ("0.5", "")
    assert (run.path / "steps.csv").read_text() == "step,loss,accuracy,learning_rate,images_per_second,feed_wait\n"
