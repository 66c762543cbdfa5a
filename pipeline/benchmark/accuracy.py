"""Time to accuracy: how long whole programs take until their validation accuracy reaches a target.

Every run is a process of its own that prints an `epoch` event per epoch, and programs take turns, seed by seed, so that
a noisy minute slows all of them.
"""

import dataclasses
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.benchmark.results import RATIO_COLUMNS, Ratio, describe_machine, machine_line, markdown_table
from pipeline.errors import InputError
from pipeline.files import write_text
from pipeline.format.manifest import Manifest
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices
from pipeline.train.run_plan import RunPlan, make_run_plan

TUTORIAL = "keras_tutorial"
_ROOT = pathlib.Path(__file__).parent.parent.parent
_WIDTH = 100  # characters of a line
_LEGEND = "Median (smallest-largest) over seeds; accuracy after the last epoch; ratios of wall seconds."


@dataclasses.dataclass(frozen=True)
class Program:
    """What is run: the command of a process, which gets `--seed N` and, if it writes results, `--run-dir DIR`."""

    id: str
    command: tuple[str, ...]
    writes: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """One process.

    Args:
        seconds: from the start of the process until it reported the first epoch at or above the target; None if it
            reported none.
        training_seconds: the part of it that trained, without start, validation and checkpoints.
        epochs: how many were seen.
        accuracy: of the validation after the last of them.
    """

    seed: int
    seconds: float | None
    training_seconds: float | None
    epochs: int
    accuracy: float

    def describe(self) -> str:
        """For people, in one line."""
        accuracy = f"{self.accuracy:.2%} in epoch {self.epochs}"
        if self.seconds is None:
            return f"not reached; {accuracy}"
        return f"reached after {self.seconds:.1f} s, {self.training_seconds:.1f} s of it training; {accuracy}"


@dataclasses.dataclass(frozen=True)
class Row:
    """The runs of one program."""

    id: str
    runs: Sequence[Run]

    @property
    def reached(self) -> int:
        """How many runs reached the target."""
        return sum(run.seconds is not None for run in self.runs)

    def times(self, name: str) -> list[float]:
        """`seconds` or `training_seconds` of each run; infinity for one that did not reach the target."""
        return [math.inf if (value := getattr(run, name)) is None else value for run in self.runs]

    def to_dict(self) -> dict[str, Any]:
        """With the medians; None if half of the runs or more did not reach the target."""
        medians = {f"median_{name}": statistics.median(self.times(name)) for name in ("seconds", "training_seconds")}
        plain = {name: value if math.isfinite(value) else None for name, value in medians.items()}
        return {**dataclasses.asdict(self), "reached": self.reached, **plain}


@dataclasses.dataclass(frozen=True)
class AccuracyResults:
    """All runs of a benchmark.

    Args:
        note: sentences that say what the rows are.
    """

    machine: Mapping[str, Any]
    target: float
    holdout: str
    rows: Sequence[Row]
    note: str

    def ratios(self) -> list[Ratio]:
        """How many times sooner recipes are than the tutorial's program, per seed, if all runs reach the target."""
        complete = [row for row in self.rows if row.reached == len(row.runs)]
        if not complete or complete[0].id != TUTORIAL:
            return []
        base, *recipes = complete
        # Not strict, because the last round may be incomplete.
        pairs = [(row.id, zip(base.times("seconds"), row.times("seconds"), strict=False)) for row in recipes]
        return [Ratio(name, base.id, tuple(slow / fast for slow, fast in times)) for name, times in pairs]

    def to_json(self) -> str:
        """Machine, target, rows with every run, ratios; indented, with a newline at the end."""
        content = {
            "command": "accuracy",
            "machine": self.machine,
            **{"target": self.target, "holdout": self.holdout, "note": self.note},
            "rows": [row.to_dict() for row in self.rows],
            "ratios": [{**dataclasses.asdict(ratio), "median": ratio.median} for ratio in self.ratios()],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The same for people: medians with (smallest-largest) of the runs."""
        title = f"Target: {self.target:.2%} of validation rows ({self.holdout})."
        parts = [machine_line(self.machine), f"{title} {self.note} {_LEGEND}"]
        tables = [markdown_table(_COLUMNS, self.rows)]
        if ratios := self.ratios():
            tables.append(markdown_table(RATIO_COLUMNS, ratios))
        return "\n\n".join([*(textwrap.fill(part, _WIDTH, break_on_hyphens=False) for part in parts), *tables])


def prepare(
    configs: Mapping[str, TrainConfig], csv: pathlib.Path | None, target: float, manifest: Manifest, devices: Devices
) -> tuple[list[Program], AccuracyResults]:
    """The programs in their order, the tutorial's first if there is a CSV for it; and results without rows.

    Args:
        configs: per recipe, by its name or file; all hold out the same rows.

    Raises:
        InputError: a recipe does not fit the data, or no rows are held out.
    """
    plans = [make_run_plan(config, manifest, devices) for config in configs.values()]
    holdout = plans[0].holdout
    if not (holdout.uses_val or holdout.from_train):
        raise InputError(f"--holdout {holdout.text}: hold out rows to validate, such as random:0.1")
    programs = [recipe_program(name, config) for name, config in configs.items()]
    if csv is not None:
        programs.insert(0, tutorial_program(csv, plans[0]))
        note = f"{TUTORIAL} is the Keras tutorial's program: batch 32, float32, TensorFlow's default settings."
    else:
        note = "Without --csv FILE, the Keras tutorial's program is not measured."
    return programs, AccuracyResults(describe_machine(plans, devices), target, holdout.describe(), (), note)


def recipe_program(recipe: str, config: TrainConfig) -> Program:
    """`train.py` with a recipe, by its name or file, and the devices and the precision of `config`."""
    options = {"data": config.data, "recipe": recipe, "holdout": config.holdout}
    options |= {"strategy": config.strategy, "devices": config.devices, "precision": config.precision}
    flags = [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]
    return Program(recipe, (sys.executable, str(_ROOT / "train.py"), *flags, "--log-json"), writes=True)


def tutorial_program(csv: pathlib.Path, plan: RunPlan) -> Program:
    """The Keras tutorial's program on the CSV of the data set, with the same rows held out."""
    holdout, drawn = plan.holdout, plan.manifest.validation
    text, group_size = holdout.text, holdout.group_size
    if holdout.uses_val:
        # The rows that the converter drew, or a tenth if the split `val` came from a file of its own.
        text = f"random:{drawn.fraction:f}:{drawn.seed}" if drawn.fraction else "random:0.1"
        group_size = drawn.group_size
    groups = () if group_size is None else ("--group-size", str(group_size))
    module = (sys.executable, "-m", "pipeline.benchmark.tutorial_program")
    return Program(TUTORIAL, (*module, str(csv), "--holdout", text, *groups, "--log-json"))


def measure_accuracy(
    programs: Sequence[Program],
    results: AccuracyResults,
    seeds: int,
    out: pathlib.Path | None = None,
    to_end: bool = False,
    environment: Mapping[str, str] | None = None,
) -> AccuracyResults:
    """Run every program with the seeds 0 to `seeds` - 1, in turn; prints a line per run.

    Args:
        results: their target and machine; the rows are added.
        out: the JSON of all runs so far is written there after each.
        to_end: let runs that reached the target finish, instead of stopping them with SIGTERM.
        environment: of the processes; None: of this one.

    Raises:
        InputError: a process failed; the message has its last line.
    """
    runs: dict[str, list[Run]] = {program.id: [] for program in programs}
    for seed in range(seeds):
        for program in programs:
            run = run_program(program, seed, results.target, to_end, environment)
            runs[program.id].append(run)
            print(f"{program.id}, seed {seed}: {run.describe()}", flush=True)
            results = dataclasses.replace(results, rows=[Row(name, done) for name, done in runs.items() if done])
            if out is not None:
                write_text(out, results.to_json())
    return results


def run_program(
    program: Program, seed: int, target: float, to_end: bool = False, environment: Mapping[str, str] | None = None
) -> Run:
    """Run it once; arguments and errors as of `measure_accuracy`."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        run_dir = ("--run-dir", f"{folder}/run") if program.writes else ()
        command = [*program.command, "--seed", str(seed), *run_dir]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
            try:
                run = _watch(process, seed, target, to_end, started)
                process.wait()
            except BaseException:  # such as Ctrl-C
                process.terminate()
                process.wait()
                raise
        stopped = run.seconds is not None and not to_end
        if run.epochs == 0 or (process.returncode and not stopped):
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"no epoch; exit code {process.returncode}"]
            last = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise InputError(f"{program.id}, seed {seed}: {last.removeprefix('error: ')}")
        return run


def _watch(process: subprocess.Popen[str], seed: int, target: float, to_end: bool, started: float) -> Run:
    """Read the events of a process to the end; it is stopped at the target unless `to_end`."""
    run, trained = Run(seed, None, None, 0, 0.0), 0.0
    for line in process.stdout or ():
        now = time.perf_counter() - started
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") != "epoch" or (run.seconds is not None and not to_end):
            continue
        trained += event["seconds"]
        run = dataclasses.replace(run, epochs=run.epochs + 1, accuracy=event["val_accuracy"])
        if run.seconds is None and run.accuracy >= target:
            run = dataclasses.replace(run, seconds=now, training_seconds=trained)
            if not to_end:
                process.terminate()
    return run


def _seconds(row: Row, name: str) -> str:
    return _spread(row.times(name), lambda value: f"{value:,.1f}" if math.isfinite(value) else "not reached")


def _spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median, with smallest and largest if there are several values and they differ as printed."""
    median, low, high = (form(pick(values)) for pick in (statistics.median, min, max))
    return median if low == high else f"{median} ({low}-{high})"


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "program": lambda row: row.id,
    "reached": lambda row: f"{row.reached} of {len(row.runs)}",
    "wall seconds": lambda row: _seconds(row, "seconds"),
    "training seconds": lambda row: _seconds(row, "training_seconds"),
    "validation accuracy": lambda row: _spread([run.accuracy for run in row.runs], "{:.2%}".format),
}
