"""The command; `python -m pytest -m bench -n 0` prints images/s of this machine."""

import json
import os

import pytest

from pipeline.errors import InputError
from tools import benchmark, csv_to_tfrecord, make_sample_csv


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("step --steps-per-call 1 many", "invalid int value: 'many'"),
        ("step --precision float32 int8", "invalid choice: 'int8'"),
        ("step --steps-per-call 4 0", "--steps-per-call 0: it must be at least 1"),
        ("step --batch-size 16 15 --devices 2", "--batch-size 15 does not divide among 2 replicas"),
        ("step --rounds 0", "^--rounds 0: it must be at least 1$"),
        ("step --seconds nan", "^--seconds nan: it must be above 0 and below 3600$"),
        ("feed --json .", r"^\.: a directory, not a regular file; choose another path$"),
        ("feed --json absent/results.json", "^absent/results.json: no directory absent; create it first$"),
        ("all --out absent", "absent: not a directory; create it first"),
    ],
)
def test_invalid_settings_are_refused_before_anything_is_printed(digits, command, message, capsys):
    with pytest.raises(InputError, match=message):
        benchmark.main([*command.split(), "--data", str(digits)])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("create", [os.mkfifo, lambda path: path.symlink_to("elsewhere")], ids=["FIFO", "link"])
def test_results_replace_regular_files_only_which_is_checked_first(digits, tmp_path, capsys, create):
    create(tmp_path / "out.json")
    with pytest.raises(InputError, match="out.json: .*, not a regular file; choose another path"):
        benchmark.main(["step", "--data", str(digits), "--json", str(tmp_path / "out.json")])
    assert capsys.readouterr().out == ""


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
