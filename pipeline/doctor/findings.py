"""What a check found, said to people and to machines."""

import dataclasses
import json
import sys
from collections.abc import Sequence

OK, NOTE, MEND = "ok", "note", "mend"

_STYLES = {OK: "green", NOTE: "cyan", MEND: "bold red"}
_FILE_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it is, what was seen, and what to do where its state is MEND.

    `shim` is the file that works around what was looked for.
    """

    group: str
    name: str
    state: str
    seen: str
    mend: str = ""
    shim: str = ""


def print_findings(findings: Sequence[Finding]) -> None:
    """A table of all, group by group, then what to mend."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # What is piped into a file has no width of its own.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
    table = Table("", "", "found", "worked around by", box=box.SIMPLE_HEAD)
    for group in dict.fromkeys(found.group for found in findings):
        table.add_row(group, style="bold")
        for found in findings:
            if found.group == group:
                table.add_row(f"  {found.name}", _styled(found.state), found.seen, found.shim)
        table.add_section()
    console.print(table)
    to_mend = [found for found in findings if found.state == MEND]
    console.print(f"{len(to_mend)} to mend" if to_mend else "nothing to mend", style=_STYLES[MEND if to_mend else OK])
    for number, found in enumerate(to_mend, 1):
        console.print(f"{number}. {found.name}: {found.mend}", soft_wrap=True)


def to_json(findings: Sequence[Finding]) -> str:
    """The same for machines."""
    healthy = all(found.state != MEND for found in findings)
    return json.dumps({"healthy": healthy, "findings": [dataclasses.asdict(found) for found in findings]}, indent=1)


def _styled(state: str):
    from rich.text import Text

    return Text(state, style=_STYLES[state])
