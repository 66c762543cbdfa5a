"""The command; `python -m pytest -m bench` prints images/s of this machine."""

import json

import pytest

from pipeline.errors import InputError
from tools import benchmark, csv_to_tfrecord, make_sample_csv


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps-per-call", "1", "many"], "invalid int value: 'many'"),
        (["--precision", "float32", "int8"], "invalid choice: 'int8'"),
        (["--steps-per-call", "4", "0"], "--steps-per-call 0: it must be at least 1"),
        (["--batch-size", "16", "15", "--devices", "2"], "--batch-size 15 does not divide among 2 replicas"),
        (["--xla", "both", "--devices", "2"], "--xla compiles the step of one replica"),
        (["--rounds", "0"], "^--rounds 0: it must be at least 1$"),
        (["--seconds", "nan"], "^--seconds nan: it must be above 0 and below 3600$"),
    ],
    ids=["a word for a number", "precision", "no steps", "uneven batch", "XLA on two replicas", "rounds", "seconds"],
)
def test_invalid_settings_are_refused_before_anything_is_printed(digits, options, message, capsys):
    with pytest.raises(InputError, match=message):
        benchmark.main(["step", "--data", str(digits), *options])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", [".", "absent/results.json"])
def test_a_json_file_that_cannot_be_written_is_refused_before_measuring(tmp_path, place):
    # The data set is missing too, which would be reported first if measuring had begun.
    with pytest.raises(InputError, match=f"^--json {tmp_path / place}: give a file in an existing directory"):
        benchmark.main(["feed", "--data", str(tmp_path / "absent"), "--json", str(tmp_path / place)])


def test_all_needs_an_existing_directory(tmp_path):
    with pytest.raises(InputError, match="absent: not a directory; create it first"):
        benchmark.main(["all", "--data", str(tmp_path), "--out", str(tmp_path / "absent")])


def test_all_stops_at_the_first_failure(tmp_path, capfd):
    assert benchmark.main(["all", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    output = capfd.readouterr()
    assert output.out.count("## benchmark.py") == 1
    assert output.err.startswith("error: ")


def test_all_writes_the_results_of_a_command(digits, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(benchmark, "ALL", {"small": "train --batch-size 16"})
    short = ["--rounds", "1", "--seconds", "0.01"]
    assert benchmark.main(["all", "--data", str(digits), "--out", str(tmp_path), *short]) == 0
    assert json.loads((tmp_path / "small.json").read_text())["machine"]["batch_size"] == 16
    assert "## benchmark.py train --batch-size 16 " in capfd.readouterr().out


@pytest.mark.parametrize("name", benchmark.ALL)
def test_all_consists_of_valid_commands(name):
    args = benchmark.make_parser().parse_args([*benchmark.ALL[name].split(), "--data", "data/mine"])
    assert name.startswith(args.command)


@pytest.mark.bench
def test_images_per_second(tmp_path, capsys):
    make_sample_csv.main([str(tmp_path / "train.csv"), "--rows", "4000"])
    csv_to_tfrecord.main(["--split", f"train={tmp_path / 'train.csv'}", "--out", str(tmp_path / "sample")])
    with capsys.disabled():
        for command in ("feed", "train"):
            print()
            line = [command, "--data", str(tmp_path / "sample"), "--rounds", "3", "--seconds", "0.5"]
            assert benchmark.main(line) == 0
