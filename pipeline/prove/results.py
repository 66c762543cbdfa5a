"""What a proof found: a row a run, as a table for people and as JSON for machines."""

import dataclasses
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.watched import WatchedCommand

_HASH_DIGITS = 8
_FILE_WIDTH = 140


@dataclasses.dataclass(frozen=True)
class Start:
    """One start of a command: how it ended and where that was; of a training the steps it added, the epochs audited."""

    killed: bool
    where: str
    seconds: float
    steps: range = range(0)
    audited: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A run, which took one start or several; the first `shared` ones were another row's too.

    `found` is the evidence; hashes are shown by their first digits.
    """

    name: str
    starts: Sequence[Start]
    found: Mapping[str, str]
    verdict: str
    proven: bool
    shared: int = 0

    @property
    def kills(self) -> int:
        return sum(start.killed for start in self.starts)

    def to_dict(self) -> dict[str, Any]:
        starts = [
            {**dataclasses.asdict(start), "steps": [start.steps.start, start.steps.stop]} for start in self.starts
        ]
        return {**dataclasses.asdict(self), "starts": starts, "kills": self.kills, "found": dict(self.found)}


class CommandFailed(Exception):
    """A start that nobody killed did not end well: the run proves the contrary."""


# What ends a run before there is anything to compare.
FAILURES = (CommandFailed, TimeoutError)


def failed_row(name: str, starts: Sequence[Start], failure: Exception) -> Row:
    """The row of a run that one of FAILURES ended, after the starts before."""
    return Row(name, [*starts, Start(False, str(failure), 0.0)], {}, str(failure), False)


def check_ended(command: WatchedCommand, called: str) -> None:
    """Raise CommandFailed where a command that is over was neither killed nor ended with exit code 0."""
    if command.killed or command.returncode == 0:
        return
    said = (command.err.strip().splitlines() or ["no word"])[-1]
    raise CommandFailed(f"{called} ended with exit code {command.returncode}: {said}")


@dataclasses.dataclass(frozen=True)
class Proof:
    """All rows of a proof. `settings` are what another one needs to meet the same instants."""

    what: str
    settings: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def proven(self) -> bool:
        return all(row.proven for row in self.rows)

    def to_json(self) -> str:
        found = {
            "what": self.what,
            "settings": dict(self.settings),
            "machine": {"platform": platform.platform(), "python": platform.python_version()},
            "proven": self.proven,
            "rows": [row.to_dict() for row in self.rows],
        }
        return json.dumps(found, indent=1, sort_keys=True) + "\n"

    def print(self) -> None:
        """The same as a table."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        # What is piped into a file has no width of its own.
        console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
        names = list(dict.fromkeys(name for row in self.rows for name in row.found))
        table = Table("run", box=box.SIMPLE_HEAD)
        for name in ("starts", "kills", *names):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("verdict")
        for row in self.rows:
            style = None if row.proven else "bold red"
            cells = (_short(row.found.get(name, "")) for name in names)
            table.add_row(row.name, str(len(row.starts)), str(row.kills), *cells, row.verdict, style=style)
        console.print(table)
        kills = sum(start.killed for row in self.rows for start in row.starts[row.shared :])
        failed = sum(not row.proven for row in self.rows)
        text = f"PROVEN: {kills} kill(s) changed nothing" if self.proven else f"NOT PROVEN: {failed} run(s) differ"
        console.print(text, style="bold green" if self.proven else "bold red")


def _short(cell: str) -> str:
    return cell[:_HASH_DIGITS] if len(cell) == 64 else cell
