"""Trainings killed at random instants and resumed by the same command, against one that nobody touched."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from pipeline.prove.evidence import Ending, Ledger, half_written, newest_step
from pipeline.prove.instants import REPORT, STARTUP, TRAINING, Instant, draw_instants
from pipeline.prove.results import FAILURES, Proof, Row, Start, check_ended, failed_row
from pipeline.watched import WatchedCommand

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOLERANCE = 1e-3  # between weights of runs on other numbers of replicas, whose sums are rounded in another order

_ROWS, _VAL_ROWS = 250, 40  # 16 steps an epoch, the last one padded
_BATCH_SIZE = 16
_CHECKPOINT_EVERY = 2
_MIN_EPOCHS = 3
# Training amplifies rounding, the more so the larger its steps: what is compared is resuming, not this.
_LEARNING_RATE = 1e-4
_ONE_DEVICE = ("--strategy", "one")
_TWO_DEVICES = ("--strategy", "mirrored", "--devices", "2")


@dataclasses.dataclass(frozen=True)
class _Pace:
    """Seconds that an unbroken run needs: to its first checkpoint, from one to the next, and after the last."""

    startup: float
    interval: float
    report: float


def prove_training(
    folder: pathlib.Path, kills: int, runs: int, seed: int, say: Callable[[str], None], keep: bool = False
) -> Proof:
    """Train once unbroken, `runs` times with `kills` kills each, and once more on two replicas from the first kill on.

    Args:
        folder: an empty directory for the data and the runs.
        seed: of the instants, and of the training.
        say: is told of each start as it ends.
        keep: whether to leave also the runs that are proven.
    """
    data = _make_data(folder)
    proof = _TrainingProof(folder, data, kills, seed, say, keep)
    rows = [proof.unbroken()]
    if rows[0].proven:
        rows += [proof.killed(number) for number in range(1, runs + 1)]
        rows.append(proof.other_replicas())
    settings = {"kills": kills, "runs": runs, "seed": seed, "epochs": proof.epochs, "steps": proof.total_steps}
    return Proof("train", {**settings, "tolerance": TOLERANCE}, rows)


class _TrainingProof:
    """The rows of `prove_training`; `unbroken` comes first, which the others are compared with."""

    def __init__(self, folder: pathlib.Path, data: pathlib.Path, kills: int, seed: int, say, keep: bool) -> None:
        self._folder, self._data, self._say, self._keep = folder, data, say, keep
        self._kills, self._seed = kills, seed
        self._ledger = Ledger(data, _BATCH_SIZE, seed)
        per_epoch = self._ledger.steps_per_epoch
        # Each kill needs a checkpoint of its own to wait for, and the run must not be over before the last of them.
        self.epochs = max(_MIN_EPOCHS, -(-2 * kills * _CHECKPOINT_EVERY // per_epoch))
        self.total_steps = self.epochs * per_epoch
        self._snapshot: tuple[pathlib.Path, list[Start]] | None = None
        self._pace: _Pace
        self._whole: Ending
        self._whole_ledger: str

    def unbroken(self) -> Row:
        run_dir = self._folder / "unbroken"
        seen: list[tuple[int, float]] = [(0, 0.0)]
        try:
            with self._command(run_dir) as command:

                def watch() -> bool:
                    if (step := newest_step(run_dir)) > seen[-1][0]:
                        seen.append((step, command.seconds))
                    return False

                command.wait_until(watch)
                start = self._ended(command, run_dir, 0, set())
        except FAILURES as failure:
            return failed_row("unbroken", [], failure)
        times = [seconds for _, seconds in seen[1:]]
        self._pace = _Pace(times[0], (times[-1] - times[0]) / max(1, len(times) - 1), start.seconds - times[-1])
        self._whole, self._whole_ledger = Ending.read(run_dir), self._ledger.sha256([start.steps])
        return self._row("unbroken", run_dir, [start])

    def killed(self, number: int) -> Row:
        """A run that is killed at each of its instants, and then left alone."""
        name = f"killed {number}"
        run_dir = self._folder / name.replace(" ", "-")
        rng = random.Random(f"{self._seed}/{number}")
        waiting = draw_instants(self._kills, self.total_steps - 4 * _CHECKPOINT_EVERY, rng)
        starts: list[Start] = []
        try:
            while waiting:
                instant = waiting.pop(0)
                starts.append(self._start(name, run_dir, len(starts) + 1, instant))
                if not starts[-1].killed:
                    # It was done before the instant came, so it owes a kill; any start passes through this one.
                    waiting.append(Instant(STARTUP, rng.random()))
                elif self._snapshot is None and 0 < newest_step(run_dir) < self.total_steps:
                    self._snapshot = (self._folder / "other-replicas", list(starts))
                    shutil.copytree(run_dir, self._snapshot[0])
            starts.append(self._start(name, run_dir, len(starts) + 1, None))
        except FAILURES as failure:
            return failed_row(name, starts, failure)
        row = self._row(name, run_dir, starts)
        if row.proven and not self._keep:
            shutil.rmtree(run_dir)  # a hundred runs would fill a small disk
        return row

    def other_replicas(self) -> Row:
        """The first run from its first kill on, on two replicas."""
        name = "on 2 replicas"
        if self._snapshot is None:
            return Row(name, (), {}, "no start was killed between two checkpoints; give another --seed", False)
        run_dir, starts = self._snapshot
        try:
            starts.append(self._start(name, run_dir, len(starts) + 1, None, _TWO_DEVICES))
        except FAILURES as failure:
            return failed_row(name, starts, failure)
        return dataclasses.replace(self._row(name, run_dir, starts, exact=False), shared=len(starts) - 1)

    def _row(self, name: str, run_dir: pathlib.Path, starts: list[Start], exact: bool = True) -> Row:
        ending = Ending.read(run_dir)
        ledger = self._ledger.sha256([start.steps for start in starts])
        hashes, expected = ending.hashes(), self._whole.hashes()
        audited = set().union(*(start.audited for start in starts))
        found = {
            "steps": str(newest_step(run_dir)),
            "audited": f"{len(audited)} epochs",
            "ids ledger": ledger,
            **hashes,
        }
        differ = [] if ledger == self._whole_ledger else ["ids"]
        differ += [] if len(audited) == self.epochs else ["epochs that the audit found whole"]
        if exact:
            differ += [part for part in hashes if hashes[part] != expected[part]]
            verdict = "the reference" if name == "unbroken" else "identical bit for bit"
        else:
            distance = ending.farthest_weight(self._whole)
            differ += [] if distance <= TOLERANCE else ["weights"]
            verdict = f"same ids; weights within {distance:.1e} (allowed: {TOLERANCE:g})"
        if differ:
            verdict = f"DIFFERENT: {', '.join(differ)}"
        return Row(name, starts, found, verdict, not differ)

    def _start(self, name, run_dir: pathlib.Path, number: int, instant: Instant | None, devices=_ONE_DEVICE) -> Start:
        """Start the run's command once more, and kill it at `instant` or leave it to end."""
        before, temporaries = newest_step(run_dir), half_written(run_dir)
        with self._command(run_dir, devices) as command:
            if instant is None:
                command.wait()
            else:
                command.wait_until(lambda: _is_reached(instant, before, newest_step(run_dir), self.total_steps))
                until = command.seconds + instant.delay * self._length(instant, before)
                command.wait_until(lambda: command.seconds >= until)
                command.kill()
            start = self._ended(command, run_dir, before, temporaries)
        self._say(f"{name}, start {number}: {start.where}")
        return start

    def _command(self, run_dir: pathlib.Path, devices: Sequence[str] = _ONE_DEVICE) -> WatchedCommand:
        arguments = {
            "--data": self._data,
            "--run-dir": run_dir,
            "--batch-size": _BATCH_SIZE,
            "--epochs": self.epochs,
            "--checkpoint-every": _CHECKPOINT_EVERY,
            "--steps-per-call": 1,
            "--precision": "float32",
            "--learning-rate": _LEARNING_RATE,
            "--seed": self._seed,
        }
        command = [sys.executable, ROOT / "train.py", "--audit", "--log-json", *devices]
        environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        environment["CUDA_VISIBLE_DEVICES"] = "-1"  # bit-identity is promised for CPUs
        flat = [each for pair in arguments.items() for each in pair]
        return WatchedCommand([*command, *flat], cwd=self._folder, env=environment)

    def _length(self, instant: Instant, before: int) -> float:
        """Seconds of the phase that an instant is in."""
        if instant.phase == TRAINING:
            return 2 * self._pace.interval
        if instant.phase == REPORT and before < self.total_steps:
            return self._pace.report
        return self._pace.startup

    def _ended(self, command: WatchedCommand, run_dir: pathlib.Path, before: int, temporaries: set[str]) -> Start:
        """What became of a start that is over."""
        step = newest_step(run_dir)
        check_ended(command, f"a start from step {before}")
        where = f"done, {step} steps"
        if command.killed:
            where = f"killed after {command.seconds:.1f} s, newest checkpoint of step {step} of {self.total_steps}"
            if fresh := sorted(half_written(run_dir) - temporaries):
                where += f", while {fresh[0]} was written"
        steps = range(_resumed_at(command, before), step)
        return Start(command.killed, where, command.seconds, steps, _audited(command))


def _is_reached(instant: Instant, before: int, newest: int, total: int) -> bool:
    if instant.phase == TRAINING:
        # A checkpoint of this very start: the instant is to be within steps.
        return newest > before and newest >= instant.step
    return instant.phase == STARTUP or newest == total


def _resumed_at(command: WatchedCommand, newest: int) -> int:
    """The step from which a start says that it goes on; where it came to say nothing, that of the newest checkpoint."""
    return next((int(event["global_step"]) for event in _events(command) if "global_step" in event), newest)


def _audited(command: WatchedCommand) -> tuple[str, ...]:
    """What the start's audit, which counts in the steps themselves, said of each epoch that it found whole."""
    return tuple(event["text"] for event in _events(command) if event.get("text", "").endswith("each once"))


def _events(command: WatchedCommand) -> Iterator[dict]:
    for line in command.lines:
        with contextlib.suppress(ValueError):  # the last line of a killed process may be cut
            yield json.loads(line)


def _make_data(folder: pathlib.Path) -> pathlib.Path:
    from pipeline.convert.converter import ConvertConfig, convert
    from pipeline.sample import write_sample_csv

    train = write_sample_csv(folder / "train.csv", _ROWS, seed=0)
    val = write_sample_csv(folder / "val.csv", _VAL_ROWS, seed=1)
    convert(ConvertConfig(splits=(("train", train), ("val", val)), out=folder / "data", shards=2))
    return folder / "data"
