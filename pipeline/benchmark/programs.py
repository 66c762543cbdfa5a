"""Whole programs beside what a user would run instead, each in a process of its own and in turns."""

import csv
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from pipeline.benchmark.machine import describe_machine
from pipeline.benchmark.results import LIMIT, OTHERS, Results, Row, ratio_of
from pipeline.errors import InputError
from pipeline.train.meter import Rates
from pipeline.train.run_dir import HISTORY_NAME

CONVERT, ARTICLE = "convert", "article"

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_EPOCHS = 2  # the first one traces and warms up; the last one counts
_BATCH_SIZE = 256
# Only the reading is timed, not the import of pandas, which is half a second more.
_READ_CSV = """
import sys, time
import pandas
started = time.perf_counter()
rows = len(pandas.read_csv(sys.argv[1]))
print(rows, time.perf_counter() - started)
"""


def measure_convert(path: pathlib.Path, rounds: int) -> Results:
    """The whole conversion of a CSV, from the start of Python to its end, against `pandas.read_csv` of it alone.

    pandas is timed twice in the same process: the reading alone, and all from the start of Python, as ours is.
    """
    ours, theirs, whole = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            out = pathlib.Path(folder, f"data-{number}")
            started = time.perf_counter()
            _run(_ROOT / "tools/csv_to_tfrecord.py", "--split", f"train={path}", "--out", out)
            converted = time.perf_counter()
            rows, read = _run("-c", _READ_CSV, path).split()
            if number:  # the first round finds the file and the modules on the disk, not in memory
                ours.append(converted - started)
                theirs.append(float(read))
                whole.append(time.perf_counter() - converted)
    count = int(rows)
    width = path.stat().st_size // count
    found = [
        Row("convert", "the whole process: CSV to shards", _rates(count, ours), width),
        Row("pandas.read_csv", "to a DataFrame, without imports", _rates(count, theirs), width, group=OTHERS),
        Row("pandas, whole", "the whole process: import and read_csv", _rates(count, whole), width, group=OTHERS),
    ]
    names = "convert", "read_csv", "pandas, whole"
    figures = {f"{name}, seconds": count / row.rates.median for name, row in zip(names, found, strict=True)}
    ratios = [ratio_of(found[0], other) for other in found[1:]]
    return Results(CONVERT, found, describe_machine(), ratios=ratios, figures=figures)


def measure_article(path: pathlib.Path, rounds: int, rows: int) -> Results:
    """`train.py` at its defaults against the program that this project began from, on the first rows of a CSV.

    The rates are of the last epoch of each, validation left out. Beside them stands the most that the network allows
    at that precision: all of its operations at the peak of the devices, as `benchmark.py step` tells it.
    """
    ours, theirs, most = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        part, data = pathlib.Path(folder, "train.csv"), pathlib.Path(folder, "data")
        _copy_head(path, part, rows)
        _run(_ROOT / "tools/csv_to_tfrecord.py", "--split", f"train={part}", "--out", data)
        for number in range(rounds):
            run_dir = pathlib.Path(folder, f"run-{number}")
            where = ["--data", data, "--run-dir", run_dir]
            _run(_ROOT / "train.py", *where, "--epochs", _EPOCHS, "--batch-size", _BATCH_SIZE)
            ours.append(_last_rate(run_dir))
            baseline = _run(_ROOT / "tools/article_baseline.py", part, "--epochs", _EPOCHS, "--validation", rows // 10)
            theirs.append(json.loads(baseline[baseline.index("{") :])["training_images_per_second"][-1])
            most.append(_rate_at_peak(data, pathlib.Path(folder, "step.json")))
        precision = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))["precision"]
    found = [
        Row("train.py", f"batch {_BATCH_SIZE}, {precision}", Rates(tuple(ours))),
        Row("article", "its program: batch 32, float32, Keras fit", Rates(tuple(theirs)), group=OTHERS),
        Row("peak", f"limit: all operations at the peak, {precision}", Rates(tuple(most)), group=LIMIT),
    ]
    machine = {**describe_machine(), "precision": precision, "batch_size": _BATCH_SIZE, "num_examples": rows}
    ours, article, peak = found
    return Results(ARTICLE, found, machine, ratios=[ratio_of(ours, article), ratio_of(peak, article)])


def _rates(count: int, seconds: list[float]) -> Rates:
    return Rates(tuple(count / each for each in seconds))


def _copy_head(path: pathlib.Path, part: pathlib.Path, rows: int) -> None:
    with path.open("rb") as source:
        lines = list(itertools.islice(source, rows + 1))
    if len(lines) <= rows:
        raise InputError(f"{path}: has {len(lines) - 1:,} rows, --rows {rows:,} asks for more")
    part.write_bytes(b"".join(lines))


def _rate_at_peak(data: pathlib.Path, path: pathlib.Path) -> float:
    """Images/s if the step's operations ran at the peak of the devices; `path` is for its JSON."""
    command = "step", "--data", data, "--batch-size", _BATCH_SIZE, "--steps-per-call", 1, "--rounds", 1, "--json", path
    _run(_ROOT / "tools/benchmark.py", *command)
    row = json.loads(path.read_text(encoding="utf-8"))["rows"][0]
    return row["images_per_second"] / row["share_of_peak"]


def _last_rate(run_dir: pathlib.Path) -> float:
    with (run_dir / HISTORY_NAME).open(encoding="utf-8", newline="") as file:
        return float(list(csv.DictReader(file))[-1]["images_per_second"])


def _run(*command) -> str:
    """What a Python program of these arguments prints; InputError with its last line where it fails."""
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise InputError(f"{pathlib.Path(str(command[0])).name} failed: {last.removeprefix('error: ')}")
    return done.stdout
