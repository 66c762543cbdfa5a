"""Conversions killed at random instants and started again by the same command, against one that nobody touched."""

import contextlib
import pathlib
import random
import shutil
import sys
from collections.abc import Callable

from pipeline.prove.evidence import hash_directory
from pipeline.prove.results import FAILURES, Proof, Row, Start, check_ended, failed_row
from pipeline.prove.training import ROOT
from pipeline.watched import WatchedCommand

_ROWS, _TEST_ROWS = 6000, 500
_SHARDS = 8
_AT_STARTUP = 0.2  # of the kills; the others come once the conversion has begun to write


def prove_conversion(
    folder: pathlib.Path, kills: int, runs: int, seed: int, say: Callable[[str], None], keep: bool = False
) -> Proof:
    """Convert once unbroken, and `runs` times with `kills` kills each.

    Args:
        folder: an empty directory for the CSVs and the data sets.
        seed: of the instants.
        say: is told of each start as it ends.
        keep: whether to leave also the data sets that are proven.
    """
    proof = _ConversionProof(folder, kills, seed, say, keep)
    rows = [proof.unbroken()]
    if rows[0].proven:
        rows += [proof.killed(number) for number in range(1, runs + 1)]
    return Proof("convert", {"kills": kills, "runs": runs, "seed": seed, "rows": _ROWS + _TEST_ROWS}, rows)


class _ConversionProof:
    """The rows of `prove_conversion`; `unbroken` comes first, which the others are compared with."""

    def __init__(self, folder: pathlib.Path, kills: int, seed: int, say: Callable[[str], None], keep: bool) -> None:
        self._folder, self._kills, self._seed, self._say, self._keep = folder, kills, seed, say, keep
        self._csvs = _make_csvs(folder)
        self._startup = self._writing = 0.0  # seconds that an unbroken one takes before it writes, and from then on
        self._expected = ""

    def unbroken(self) -> Row:
        out = self._out("unbroken")
        try:
            with self._command(out) as command:
                command.wait_until(lambda: _contents(out.parent))
                self._startup = command.seconds
                command.wait()
                check_ended(command, "the conversion")
        except FAILURES as failure:
            return failed_row("unbroken", [], failure)
        self._writing = command.seconds - self._startup
        self._expected = hash_directory(out)
        return self._row("unbroken", [Start(False, "done", command.seconds)], [out], "the reference")

    def killed(self, number: int) -> Row:
        """Conversions that are killed, each of them until it is done, until all kills of the run have come."""
        name = f"killed {number}"
        rng = random.Random(f"{self._seed}/{number}")
        starts: list[Start] = []
        outs = [self._out(f"{number}-1")]
        try:
            while sum(start.killed for start in starts) < self._kills:
                if outs[-1].exists():  # it was done before the instant came, or killed when all was done
                    outs.append(self._out(f"{number}-{len(outs) + 1}"))
                starts.append(self._start(name, len(starts) + 1, outs[-1], rng))
            if not outs[-1].exists():
                starts.append(self._start(name, len(starts) + 1, outs[-1], None))
        except FAILURES as failure:
            return failed_row(name, starts, failure)
        row = self._row(name, starts, outs, "identical byte for byte")
        for out in outs if row.proven and not self._keep else ():
            shutil.rmtree(out.parent)
        return row

    def _start(self, name: str, number: int, out: pathlib.Path, rng: random.Random | None) -> Start:
        before = _contents(out.parent)
        with self._command(out) as command:
            if rng is not None:
                writing = rng.random() >= _AT_STARTUP
                if writing:
                    command.wait_until(lambda: _contents(out.parent) != before)
                until = rng.random() * (self._writing if writing else self._startup)
                until += command.seconds if writing else 0.0
                command.wait_until(lambda: command.seconds >= until)
                command.kill()
            else:
                command.wait()
            check_ended(command, "a conversion")
        left = ", ".join(sorted(path.name for path in out.parent.iterdir())) or "nothing"
        start = Start(command.killed, f"{_fate(command)}; it left {left}", command.seconds)
        self._say(f"{name}, start {number}: {start.where}")
        return start

    def _row(self, name: str, starts: list[Start], outs: list[pathlib.Path], verdict: str) -> Row:
        hashes = [hash_directory(out) for out in outs]
        differ = [out.parent.name for out, found in zip(outs, hashes, strict=True) if found != self._expected]
        files = str(len(list(outs[0].iterdir())))
        found = {"data sets": str(len(outs)), "files in each": files, "SHA-256 of all": hashes[0]}
        if differ:
            verdict = f"DIFFERENT: {', '.join(differ)}"
        return Row(name, starts, found, verdict, not differ)

    def _out(self, name: str) -> pathlib.Path:
        """A data set to make: each in a folder of its own, and of one name, which its files bear."""
        (self._folder / name).mkdir()
        return self._folder / name / "data"

    def _command(self, out: pathlib.Path) -> WatchedCommand:
        splits = [each for split, path in self._csvs.items() for each in ("--split", f"{split}={path}")]
        options = ["--val-fraction", "0.1", "--shards", _SHARDS, "--out", out]
        tool = ROOT / "tools" / "csv_to_tfrecord.py"
        return WatchedCommand([sys.executable, tool, *splits, *options], cwd=self._folder)


def _contents(folder: pathlib.Path) -> set[tuple[str, int, int, int]]:
    """Name, inode, size and time of all that a folder holds; another set once anything in it has changed."""
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a conversion is at work here
            status = path.stat()
            found.add((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def _fate(command: WatchedCommand) -> str:
    return f"{'killed' if command.killed else 'done'} after {command.seconds:.2f} s"


def _make_csvs(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    from pipeline.sample import write_sample_csv

    return {
        "train": write_sample_csv(folder / "train.csv", _ROWS, seed=0),
        "test": write_sample_csv(folder / "test.csv", _TEST_ROWS, seed=1),
    }
