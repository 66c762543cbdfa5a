"""Every benchmark in turn, each with its JSON file and its figure."""

import pathlib
import shlex
import subprocess
import sys

# By the name of its file; each in a process of its own, as nothing is then left over.
_ALL = {
    "feed_2048": "feed --data {data} --batch-size 2048 --steps-per-call 16 --seconds {seconds} --plot {plot}",
    "feed_256": "feed --data {data} --batch-size 256 --steps-per-call 64 --seconds {seconds} --plot {plot}",
    "scale": "scale --rows {rows} --seconds {seconds} --plot {plot}",
    "handover": "handover --seconds {seconds} --plot {plot}",
    "step": "step --data {data} --xla both --rounds 3 --seconds {seconds} --plot {plot}",
    "host": "host --seconds {seconds} --plot {plot}",
    "train": "train --data {data} --rounds 3 --seconds {seconds} --plot {plot}",
    "memory": "memory --rows {rows}",
    "convert": "convert --csv {csv}",
    "article": "article --csv {csv}",
}


def lines_of_all(
    data: pathlib.Path, csv: pathlib.Path | None, out: pathlib.Path, rows: int, seconds: float
) -> list[list[str]]:
    """The command lines that `all` stands for; without a CSV those that need one are left out."""
    lines = []
    for name, command in _ALL.items():
        if csv is None and "{csv}" in command:
            continue
        given = {"data": data, "csv": csv, "rows": rows, "seconds": seconds, "plot": out / f"{name}.png"}
        lines.append([part.format(**given) for part in command.split()] + ["--json", str(out / f"{name}.json")])
    return lines


def run_all(script: pathlib.Path, lines: list[list[str]]) -> int:
    """Run `script` with each line of arguments; returns the exit code of the first that fails, else 0."""
    for line in lines:
        print(f"\n{script.name} {shlex.join(line)}", flush=True)
        if code := _run(script, line):
            return code
    return 0


def _run(script: pathlib.Path, line: list[str]) -> int:
    with subprocess.Popen([sys.executable, script, *line]) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()  # and not killed: it may have gigabytes of shards to remove
            raise
