"""Time to accuracy, of real programs on small data and of scripts that print a training's events."""

import json
import sys

import pytest

from pipeline.benchmark import accuracy, tutorial_program
from pipeline.benchmark.accuracy import TUTORIAL, AccuracyResults, Program, Row, Run, measure_accuracy, run_program
from pipeline.errors import InputError
from pipeline.feed.holdout import Holdout
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.run_plan import make_run_plan
from tests.helpers.datasets import bars, write_csv
from tests.helpers.small_run import PLAIN_RECIPE, TINY
from tools import benchmark, csv_to_tfrecord

MACHINE = {"date": "2026-11-26", "hardware": ["a processor"], "instructions": [], "cores": 2, "versions": {}}
EMPTY = AccuracyResults(MACHINE, 0.9, "random:0.1", (), "a note.")


def script(lines: str, name: str = "quick") -> Program:
    """A program that runs these lines, in which `epoch(accuracy)` prints an event as train.py does."""
    define = (
        "import json, sys, time\n"
        "def epoch(accuracy):\n"
        "    print(json.dumps({'event': 'epoch', 'seconds': 2.0, 'val_accuracy': accuracy}), flush=True)\n"
    )
    return Program(name, (sys.executable, "-c", define + lines))


def test_a_recipe_and_the_tutorial_s_program_take_turns_until_they_reach_the_target(digits, tmp_path, capsys):
    recipe = tmp_path / "quick.json"
    recipe.write_text(
        json.dumps({**PLAIN_RECIPE, "model": TINY, "epochs": 99, "batch_size": 16, "learning_rate": 0.01})
    )
    options = ["--target", 0.5, "--seeds", 1, "--recipe", recipe, "--csv", digits.parent / "train.csv"]
    command = ["accuracy", "--data", digits, *options, "--out", tmp_path / "results.json"]
    assert benchmark.main([str(argument) for argument in command]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["id"] for row in results["rows"]] == [TUTORIAL, str(recipe)]
    for row in results["rows"]:
        (run,) = row["runs"]
        assert 0 < run["training_seconds"] < run["seconds"] and run["accuracy"] >= 0.5 and run["epochs"] < 99
        assert row["reached"] == 1 and row["median_seconds"] == run["seconds"]
    (ratio,) = results["ratios"]
    assert ratio["median"] == pytest.approx(results["rows"][0]["median_seconds"] / results["rows"][1]["median_seconds"])
    assert results["machine"]["batch_size"] == 16
    out = capsys.readouterr().out
    assert f"{TUTORIAL}, seed 0: reached after " in out and f"| {recipe} " in out and "1 of 1" in out


def test_a_program_is_stopped_at_the_target():
    run = run_program(script("epoch(0.5); epoch(0.95); time.sleep(600)"), 3, 0.9)
    assert (run.seed, run.epochs, run.accuracy, run.training_seconds) == (3, 2, 0.95, 4.0)
    assert 0 < run.seconds < 60


def test_a_program_that_is_not_stopped_counts_until_the_target_and_shows_its_last_accuracy():
    run = run_program(script("epoch(0.5); epoch(0.95); time.sleep(1); epoch(0.85)"), 0, 0.9, to_end=True)
    assert (run.epochs, run.accuracy, run.training_seconds) == (3, 0.85, 4.0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("epoch(0.5); sys.stderr.write('error: no space left\\nand more\\n'); sys.exit(2)", "no space left"),
        ("epoch(0.5); raise ValueError('a bug')", "ValueError: a bug"),
        ("sys.exit(3)", "no epoch; exit code 3"),
    ],
)
def test_a_program_that_fails_ends_the_benchmark_with_its_message(lines, message):
    with pytest.raises(InputError, match=f"^quick, seed 0: {message}$"):
        run_program(script(lines), 0, 0.9)


def test_a_target_that_is_not_reached_is_no_number(tmp_path, capsys):
    seed = "(sys.argv[-1] == '1')"
    programs = [script("epoch(0.95)", TUTORIAL), script(f"epoch(0.8 + 0.15 * {seed})")]
    results = measure_accuracy(programs, EMPTY, 2, tmp_path / "out.json")
    stored = json.loads((tmp_path / "out.json").read_text())
    quick = stored["rows"][1]
    assert (quick["reached"], quick["median_seconds"], quick["runs"][0]["seconds"]) == (1, None, None)
    assert stored["ratios"] == []
    assert "quick, seed 0: not reached; 80.00% in epoch 1" in capsys.readouterr().out
    (line,) = [line for line in results.to_markdown().splitlines() if line.startswith("| quick")]
    assert "|  1 of 2 | not reached (0." in line and "-not reached)" in line


def test_the_text_has_medians_spreads_and_ratios_within_100_columns():
    slow = Row(TUTORIAL, [Run(seed, 300.0 + seed, 200.0, 1, 0.99) for seed in range(3)])
    fast = Row("fast", [Run(seed, 20.0 + seed, 9.0, 1, 0.99 + seed / 1000) for seed in range(3)])
    text = AccuracyResults(MACHINE, 0.99, "split", [slow, fast], "a note. " * 20).to_markdown()
    assert "21.0 (20.0-22.0) |              9.0 | 99.10% (99.00%-99.20%)" in text
    assert "| fast / keras_tutorial |  14.33 | 15.00, 14.33, 13.73 |" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_tutorial_s_program_validates_on_the_rows_that_train_py_holds_out(tmp_path, capsys):
    images, labels = bars(range(203))
    labels[-40:] = (labels[-40:] + 1) % 3  # so that what is learned from the other rows is wrong in these
    path = write_csv(tmp_path / "train.csv", images, labels)
    assert tutorial_program.main([str(path), "--holdout", "last:40", "--epochs", "4", "--log-json"]) == 0
    *epochs, note = map(json.loads, capsys.readouterr().out.splitlines())
    assert [event["epoch"] for event in epochs] == [1, 2, 3, 4]
    assert epochs[-1]["accuracy"] > 0.8 and epochs[-1]["val_accuracy"] < 0.2
    assert all(event["seconds"] > 0 for event in epochs)
    assert note["text"] == "validation accuracy 99.00% not reached in 4 epochs"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "No columns to parse from file; give a CSV with a header"),
        ("label,pixel0\n1,2,3\n1\n1,2,3,4\n", "Error tokenizing data.*; give a CSV with a header"),
        ("name,pixel0\n1,2\n", "no column 'label'; name it so in the first line"),
        ("label,pixel0\n1,high\n", "column 'pixel0' has other values than whole numbers; correct them"),
        ("label,pixel0\n1,\n", "column 'pixel0' has other values than whole numbers; correct them"),
        ("label,pixel0,pixel1\n1,2,3\n", "2 pixels per row are not a square image; give square gray images"),
    ],
)
def test_an_invalid_csv_is_one_line_of_the_tutorial_s_program(tmp_path, content, message):
    path = tmp_path / "train.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=f"train.csv: {message}"):
        tutorial_program.main([str(path)])


def test_the_tutorial_s_program_draws_the_split_val_as_the_conversion_did(tmp_path):
    images, labels = bars(range(200))
    path = write_csv(tmp_path / "train.csv", images, labels)
    convert = ["--split", f"train={path}", "--val-fraction", "0.2", "--seed", "7", "--out", str(tmp_path / "bars")]
    csv_to_tfrecord.main(convert)
    config = TrainConfig(data=tmp_path / "bars", run_dir=tmp_path, holdout="split")
    manifest = load_manifest(config.data)
    command = accuracy.tutorial_program(path, make_run_plan(config, manifest, make_devices())).command
    rows = Holdout(command[command.index("--holdout") + 1]).rows(labels)
    assert load_split(config.data, manifest, "val").images.tolist() == images[rows].reshape(len(rows), -1).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--target 99", "^--target 99.0: it must be above 0 and at most 1, such as 0.99$"),
        ("--seeds 0", "^--seeds 0: it must be at least 1$"),
        ("--recipe fast slow", "^--recipe slow: choose one of tutorial, fast, best, or name a TOML or JSON file$"),
        ("--csv absent.csv", "^--csv absent.csv: no such file$"),
        ("--out absent/results.json", "^absent/results.json: no directory absent; create it first$"),
        ("--holdout some", "^--holdout 'some': give split, "),
        ("--holdout none", "^--holdout none: hold out rows to validate, such as random:0.1$"),
    ],
)
def test_invalid_options_are_refused_before_anything_runs(digits, options, message, capsys):
    with pytest.raises(InputError, match=message):
        benchmark.main(["accuracy", "--data", str(digits), *options.split()])
    assert capsys.readouterr().out == ""
