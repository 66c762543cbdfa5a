"""Prove that a training that is killed and resumed ends with the bits of an uninterrupted one.

    python tools/prove_resume.py --kills 5
    python tools/prove_resume.py --kills 5 --runs 20 --seed 1

Trains once unbroken, then again with SIGKILL at random times, resuming with the same command after each kill. Weights,
optimizer, history and evaluation must be equal bit for bit. One more run is killed once and resumes on two replicas;
its weights must agree to 1e-3. Each epoch must be audited as complete. The exit code is 0 if all of this holds, else 1.
"""

import contextlib
import csv
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError, pluralize
from pipeline.sample.dataset import make_sample_dataset

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-3  # of weights on another number of replicas, whose sums are rounded in another order
_MAX_SECONDS = 600  # after which a command counts as hung
_POLL_SECONDS = 0.002
_ROWS, _VAL_ROWS = 280, 28
_STEPS_PER_EPOCH = 16  # of 252 rows; the last step is padded
_CHECKPOINT_EVERY = 2
# Training amplifies rounding, the more the larger its steps, and this compares resuming, not rounding: hence the rate.
_SETTINGS = (
    "--model residual,width=8,pairs=0 --optimizer sgd --learning-rate 1e-3 "
    "--batch-size 16 --steps-per-call 1 --precision float32 --audit --log-json"
)
_TIMES = ("seconds", "images_per_second")  # columns of the history that the clock decides
_ONE_DEVICE = "--strategy one"
_TWO_REPLICAS = "--strategy mirrored --devices 2"


class NotProven(Exception):
    """A run failed, reported something that must not be, or ended differently. Its text is one line."""


def newest_step(run_dir: pathlib.Path) -> int:
    """Global step of the newest checkpoint; 0 if there is none."""
    names = [path.name for path in run_dir.glob("checkpoints/checkpoint-*.npz")]
    return max((int(match[1]) for name in names if (match := re.fullmatch(r"checkpoint-(\d+)\.npz", name))), default=0)


def differences(run_dir: pathlib.Path, other: pathlib.Path) -> list[str]:
    """Which of weights, optimizer, history (except times) and evaluation of two finished runs differ in any bit."""
    ours, theirs = _final_state(run_dir), _final_state(other)
    return [name for name in ours if ours[name] != theirs[name]]


def _final_state(run_dir: pathlib.Path) -> dict[str, Any]:
    arrays = {name: (array.dtype, array.shape, array.tobytes()) for name, array in _arrays(run_dir).items()}
    with (run_dir / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = [{key: row[key] for key in row if key not in _TIMES} for row in csv.DictReader(file)]
    return {
        "weights": {name: bits for name, bits in arrays.items() if name.startswith("model/")},
        "optimizer": {name: bits for name, bits in arrays.items() if name.startswith("optimizer/")},
        "history": rows,
        "evaluation": (run_dir / "evaluation.json").read_text("utf-8"),
    }


def max_weight_difference(run_dir: pathlib.Path, other: pathlib.Path) -> float:
    """The largest difference between two weights at the same place."""
    ours, theirs = _arrays(run_dir), _arrays(other)
    # NumPy's max, unlike Python's, does not lose a NaN.
    differing = [np.abs(ours[name] - theirs[name]).max(initial=0.0) for name in ours if name.startswith("model/")]
    return float(np.max(differing))


def _arrays(run_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays of the newest checkpoint."""
    path = run_dir / f"checkpoints/checkpoint-{newest_step(run_dir):09d}.npz"
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def kill_schedule(kills: int, total_steps: int, rng: random.Random) -> list[int]:
    """Steps after whose checkpoint to kill, as one run can meet them: a fifth 0, at start-up, a fifth the last step."""
    few = kills // 5
    last = max(1, total_steps - 4 * _CHECKPOINT_EVERY)  # after later ones the training would often be done
    steps = sorted(rng.randint(1, last) for _ in range(kills - 2 * few))
    for _ in range(few):
        steps.insert(rng.randint(1, len(steps)), 0)
    return steps + [total_steps] * few


class Run:
    """One run directory and all starts of its command, beside the data and the outputs of each start in `folder`."""

    def __init__(self, folder: pathlib.Path, name: str, epochs: int, seed: int) -> None:
        self.path, self.name, self._folder = folder / name.replace(" ", "-"), name, folder
        self._epochs, self.seed, self.total_steps = epochs, seed, epochs * _STEPS_PER_EPOCH
        self.starts = self.kills = 0
        self._audited: set[int] = set()

    def finish(self, devices: str = _ONE_DEVICE) -> float:
        """Start or resume, and let the run end; returns the seconds.

        Raises:
            NotProven: it failed, or one of the epochs was not audited as complete by any start.
        """
        started = time.monotonic()
        with self._start(devices) as process:
            _wait_until(process, lambda: False)
        if missing := set(range(1, self._epochs + 1)) - self._audited:
            raise NotProven(f"epochs {sorted(missing)} were not audited as complete")
        return time.monotonic() - started

    def kill(self, at_step: int, delay: float) -> bool:
        """Start or resume, and kill `delay` seconds after the checkpoint of a step; False if the run ended before."""
        before = newest_step(self.path)

        def is_due() -> bool:
            step = newest_step(self.path)
            # A checkpoint of this start, so that the kill is within steps and not at start-up again.
            return step >= at_step and (step > before or at_step in (0, self.total_steps))

        with self._start() as process:
            _wait_until(process, is_due)
            until = time.monotonic() + delay
            _wait_until(process, lambda: time.monotonic() >= until)
        killed = process.returncode == -signal.SIGKILL
        self.kills += killed
        return killed

    @contextlib.contextmanager
    def _start(self, devices: str = _ONE_DEVICE) -> Iterator[subprocess.Popen]:
        """Start the command; after the block it is killed if it still runs, and its end and its events are checked."""
        self.starts += 1
        settings = {"data": self._folder / "data", "run-dir": self.path, "epochs": self._epochs, "seed": self.seed}
        flags = [f"--{name}={value}" for name, value in {**settings, "checkpoint-every": _CHECKPOINT_EVERY}.items()]
        command = [sys.executable, str(ROOT / "train.py"), *f"{_SETTINGS} {devices}".split(), *flags]
        # Equal bits are promised on CPUs, and an empty TF_CONFIG is none.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": ""}
        before = newest_step(self.path)
        out, err = (self._folder / f"{self.path.name}-start-{self.starts}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            # A session of its own, so that the kill reaches all that it started.
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        killed, after = process.returncode == -signal.SIGKILL, newest_step(self.path)
        print(f"{self.name}, start {self.starts}: {'killed' if killed else 'ended'} at step {after}", flush=True)
        if not killed and process.returncode != 0:
            reason = (err.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise NotProven(f"start {self.starts} ended with exit code {process.returncode}: {reason}")
        self._check_events(out, before, started=after > before or not killed)

    def _check_events(self, out: pathlib.Path, before: int, started: bool) -> None:
        """Collect the audited epochs, and check that the start resumed at the newest checkpoint `before` it."""
        events = []
        for line in out.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # a kill may cut the last line
                events.append(json.loads(line))
        self._audited |= {event["epoch"] for event in events if event["event"] == "audit" and event["complete"]}
        resumed = [event["global_step"] for event in events if event["event"] == "resumed"]
        # A start that was killed early may not have reported it.
        if resumed != [before] * (before > 0) and (resumed or started):
            raise NotProven(f"start {self.starts} resumed at step {resumed}; the newest checkpoint is of step {before}")


def _wait_until(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Return once `condition()` holds or the process ended."""
    deadline = time.monotonic() + _MAX_SECONDS
    while process.poll() is None and not condition():
        if time.monotonic() > deadline:
            raise NotProven(f"a start did not end within {_MAX_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def prove(folder: pathlib.Path, kills: int, runs: int, seed: int) -> None:
    """Train unbroken, `runs` times with `kills` kills each, and on two replicas after one kill; print each result.

    Args:
        folder: an empty directory for the data and the runs.
        seed: of the kill schedules and of the training.

    Raises:
        NotProven: a run failed or ended differently.
    """
    make_sample_dataset(folder / "data", _ROWS, _VAL_ROWS, rows_per_writer=10, quiet=True)
    # Each kill waits for a checkpoint of its own, and the run must not end before the last of them.
    epochs = max(3, -(-2 * kills * _CHECKPOINT_EVERY // _STEPS_PER_EPOCH))
    whole = Run(folder, "unbroken", epochs, seed)
    seconds = whole.finish()
    failed = 0
    for number in range(1, runs + 2):
        is_last = number > runs
        run = Run(folder, "on 2 replicas" if is_last else f"killed {number}", epochs, seed)
        try:
            if is_last:
                run.kill(run.total_steps // 3, delay=0)
            else:
                _kill(run, kills, seconds)
            run.finish(_TWO_REPLICAS if is_last else _ONE_DEVICE)
            _compare(run, whole, exact=not is_last)
        except NotProven as error:
            print(f"{run.name}: {error}", flush=True)
            failed += 1
        else:
            shutil.rmtree(run.path)  # a hundred runs would fill a small disk
    if failed:
        raise NotProven(f"{failed} of {runs + 1} runs failed or differ")


def _kill(run: Run, kills: int, seconds: float) -> None:
    """Kill a run that takes `seconds` unbroken at each time of its schedule."""
    rng = random.Random(f"{run.seed}/{run.name}")
    schedule = kill_schedule(kills, run.total_steps, rng)
    while schedule:
        step = schedule.pop(0)
        # Start-up is about half of the time; later delays are short, so that kills hit steps as well as checkpoints.
        if not run.kill(step, rng.random() * seconds / (20 if step else 2)):
            schedule.append(0)  # the run ended before; every start can be killed at start-up


def _compare(run: Run, whole: Run, exact: bool) -> None:
    if exact:
        differing, result = differences(run.path, whole.path), "identical bit for bit"
    else:
        distance = max_weight_difference(run.path, whole.path)
        # A NaN is not within the tolerance either.
        differing, result = [] if distance <= TOLERANCE else ["weights"], f"weights within {distance:.1e}"
    if differing:
        raise NotProven(f"{', '.join(differing)} DIFFER")
    print(f"{run.name}: {result} after {pluralize(run.kills, 'kill')}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; returns the exit code."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=5, metavar="N", help="per run (default: %(default)s)")
    add("--runs", type=int, default=1, metavar="N", help="runs to kill, at other times each (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of the times and of the training (default: %(default)s)")
    args = parser.parse_args(argv)
    for name, lowest in (("kills", 1), ("runs", 1), ("seed", 0)):
        if getattr(args, name) < lowest:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least {lowest}")
    folder = tempfile.mkdtemp(prefix="prove-resume-")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        try:
            prove(pathlib.Path(folder), args.kills, args.runs, args.seed)
        except NotProven as error:
            stack.pop_all()
            print(f"NOT PROVEN: {error}; data and runs are in {folder}")
            return 1
    print("PROVEN: the kills changed nothing")
    return 0


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
