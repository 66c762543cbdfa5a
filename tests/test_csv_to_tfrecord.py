import io
import pathlib
import subprocess
import sys

import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from tests.helpers.conversion import GOOD, left_over, table
from tools import csv_to_tfrecord

ROOT = pathlib.Path(csv_to_tfrecord.__file__).parents[1]


def run_command(*args, **options):
    command = [sys.executable, str(ROOT / "tools" / "csv_to_tfrecord.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **options)


def test_command_converts_and_prints_a_summary(tmp_path):
    (tmp_path / "train.csv").write_text(table(300))
    (tmp_path / "test.csv").write_text(table(40, "id", lambda k: k))
    splits = [f"--split={name}={tmp_path / name}.csv" for name in ("train", "test")]
    done = run_command(*splits, "--val-fraction", "0.1", "--shards", "2", "--out", tmp_path / "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert "data: 340 images of 2 x 2 x 1, 3 classes" in done.stdout
    assert "val is 0.1 of train of each class, seed 0" in done.stdout
    assert "no labels" in done.stdout
    assert load_manifest(tmp_path / "data").split("val").num_examples == 30


def test_command_reports_a_mistake_in_one_line_with_exit_code_2(tmp_path):
    (tmp_path / "train.csv").write_text(GOOD + "1,2,3,4,300\n")
    done = run_command("--split", f"train={tmp_path}/train.csv", "--out", tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    line = "line 12: column 'p3': '300' is outside 0..255; values here run from 246 to 300: --pixel-range 0 1023 scales"
    assert done.stderr == f"error: {tmp_path}/train.csv, {line} them to 0..255\n"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "fragment"),
    [
        ([], "required"),
        (["--split", "train", "--out", "x"], "'train' must be NAME=FILE"),
        (["--split", "train=", "--out", "x"], "'train=' must be NAME=FILE"),
        (["--split", "train=no-such.csv", "--out", "x"], "no-such.csv: No such file"),
        (["--split", "train=.", "--out", "x"], "a folder without images"),
        (["--split", "train=a", "--out", "x", "--shards", "many"], "--shards"),
        (["--split", "train=a", "--out", "x", "--val-fraction", "0"], "between 0 and 1"),
        (["--split", "train=a", "--out", "x", "--what"], "--what"),
    ],
)
def test_invalid_arguments_are_an_input_error(args, fragment):
    with pytest.raises(InputError) as caught:
        csv_to_tfrecord.main(args)
    assert fragment in str(caught.value)


def test_terminal_gets_a_progress_bar(tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    (tmp_path / "train.csv").write_text(table(300))
    monkeypatch.setattr(sys, "stderr", Terminal())
    csv_to_tfrecord.main(["--split", f"train={tmp_path}/train.csv", "--out", str(tmp_path / "data")])
    assert "rows/s" in sys.stderr.getvalue()
    assert "300 images" in capsys.readouterr().out


def test_memory_does_not_grow_with_the_file(tmp_path):
    """The peak for 40,000 rows of 28 x 28 is within 100 MB of the interpreter's, and near that for 4,000."""
    pixels = ",".join(["0,128,255,7"] * 196)
    head = "label," + ",".join(f"p{k}" for k in range(784)) + "\n"
    code = (
        "import resource, sys; from pipeline.convert.converter import *;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak();"
        "convert(ConvertConfig(splits=(('train', sys.argv[1]),), out=sys.argv[2], val_fraction=0.1));"
        "print(peak() - before)"
    )
    grown = []
    for rows in (4_000, 40_000):
        path = tmp_path / f"{rows}.csv"
        path.write_text(head + "".join(f"{k % 10},{pixels}\n" for k in range(rows)))
        command = [sys.executable, "-c", code, str(path), str(tmp_path / f"out{rows}")]
        grown.append(int(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout))
    assert grown[1] < 100_000
    assert grown[1] - grown[0] < 30_000
