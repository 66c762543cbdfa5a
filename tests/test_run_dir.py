import csv
import json
import pathlib

import pytest

from pipeline.errors import InputError
from pipeline.train.run_dir import COLUMNS, RunDirectory


def config(**identity):
    return {"identity": {"seed": 0, **identity}, "settings": {}}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_a_new_directory_is_claimed_and_the_same_run_again(run):
    run.claim(config(), write=True)
    run.claim(config(), write=True)
    assert json.loads((run.path / "config.json").read_text()) == config()


def test_other_settings_are_refused_with_the_differences(run):
    run.claim(config(batch_size=64), write=True)
    with pytest.raises(InputError, match=r"other settings \(batch_size 64 -> 32\); .* --fresh"):
        run.claim(config(batch_size=32), write=True)


def test_a_directory_that_is_something_else_is_left_alone(run):
    run.path.mkdir()
    (run.path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not a run directory"):
        run.claim(config(), write=True)
    assert [path.name for path in run.path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense"])
def test_a_config_that_is_not_ours_is_refused(run, content):
    run.path.mkdir()
    (run.path / "config.json").write_text(content)
    with pytest.raises(InputError, match="not a run's configuration"):
        run.claim(config(), write=True)


def test_a_worker_that_does_not_write_leaves_nothing(run):
    run.claim(config(), write=False)
    assert not run.path.exists()


def test_setting_aside_deletes_nothing(run):
    for number in (1, 2):
        run.claim(config(seed=number), write=True)
        assert run.set_aside() == pathlib.Path(f"{run.path}.old-{number}")
    assert run.set_aside() is None


def test_history_has_a_row_an_epoch_and_leaves_missing_figures_empty(run):
    run.path.mkdir()
    run.write_history([{"epoch": 1, "step": 13, "loss": 0.5, "accuracy": 0.75}])
    rows = list(csv.DictReader((run.path / "history.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["loss"], rows[0]["val_loss"]) == ("0.5", "")


def test_what_is_no_run_is_not_set_aside(run):
    run.path.mkdir()
    (run.path / "thesis.tex").touch()
    assert run.set_aside() is None
    assert (run.path / "thesis.tex").exists()
