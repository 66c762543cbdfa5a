"""What a benchmark found: rows of rates, ratios between them, and the machine they were measured on."""

import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.train.meter import Rates

OURS, OTHERS, LIMIT = "ours", "others", "limit"  # groups of rows

_FILE_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured thing: its rates, and the bytes that leave it for one image (0 where none is meant).

    `unit` is what the rates count: "image", "step" or "flop". `group` tells what is ours from what others made (OTHERS)
    and from what the machine allows (LIMIT). `flops_per_image` are the operations that training on an image takes, and
    `peak_flops` those that the devices could do a second; 0 where it is not meant.
    """

    name: str
    note: str
    rates: Rates
    bytes_per_image: int = 0
    unit: str = "image"
    group: str = OURS
    flops_per_image: int = 0
    peak_flops: float = 0.0

    @property
    def flops_per_second(self) -> float:
        """Floating-point operations, where they are counted, else 0."""
        return self.rates.median * (1 if self.unit == "flop" else self.flops_per_image)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every round is kept, so that a reader can judge the spread."""
        found = {
            "name": self.name,
            "note": self.note,
            "group": self.group,
            f"{self.unit}s_per_second": self.rates.median,
            "spread": self.rates.spread,
            "rounds": list(self.rates.rounds),
            "bytes_per_second": self.rates.median * self.bytes_per_image,
            f"cpu_microseconds_per_{self.unit}": self.rates.cpu_microseconds,
        }
        if self.flops_per_image:
            share = self.flops_per_second / self.peak_flops if self.peak_flops else None
            found |= {"flops_per_second": self.flops_per_second, "share_of_peak": share}
        return found


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times faster `above` is than `below`, compared round by round, as both met the same noise then."""

    above: str
    below: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def unstable(self) -> bool:
        """Whether the rounds differ by more than the ratio itself, so that it says nothing."""
        return max(self.rounds) - min(self.rounds) > self.median

    def to_dict(self) -> dict[str, Any]:
        return {
            "above": self.above,
            "below": self.below,
            "ratio": self.median,
            "rounds": list(self.rounds),
            "unstable": self.unstable,
        }


@dataclasses.dataclass(frozen=True)
class Results:
    """All that one run of a benchmark found. `figures` are single numbers by name, with the unit in the name."""

    kind: str
    rows: Sequence[Row]
    machine: Mapping[str, Any]
    ratios: Sequence[Ratio] = ()
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    verdict: str = ""

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def to_json(self) -> str:
        found = {
            "kind": self.kind,
            "machine": dict(self.machine),
            "verdict": self.verdict,
            "figures": dict(self.figures),
            "rows": [row.to_dict() for row in self.rows],
            "ratios": [ratio.to_dict() for ratio in self.ratios],
        }
        return json.dumps(found, indent=1, sort_keys=True) + "\n"

    def print(self) -> None:
        """The same as a table for people."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        # What is piped into a file has no width of its own.
        console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
        columns = [column for column in _COLUMNS if any(column.text(row) for row in self.rows)]
        table = Table("", box=box.SIMPLE_HEAD)
        for column in columns:
            table.add_column(column.title, justify="right", no_wrap=True)
        table.add_column("what it is")
        for row in self.rows:
            table.add_row(row.name, *(column.text(row) for column in columns), row.note)
        if self.rows:
            console.print(table)
        for ratio in self.ratios:
            text = "unstable" if ratio.unstable else f"{ratio.median:.2f}x"
            console.print(f"{ratio.above} / {ratio.below}: {text}", soft_wrap=True)
        for name, value in self.figures.items():
            console.print(f"{name}: {figure_text(value)}", soft_wrap=True)
        if self.verdict:
            console.print(self.verdict, soft_wrap=True)


def ratio_of(above: Row, below: Row) -> Ratio:
    """The ratio of two rows of one run, which have as many rounds."""
    pairs = zip(above.rates.rounds, below.rates.rounds, strict=True)
    return Ratio(above.name, below.name, tuple(high / low for high, low in pairs))


def rate_text(row: Row) -> str:
    """The median rate for people."""
    return f"{row.rates.median:,.0f}"


def figure_text(value: float) -> str:
    """A single number for people: whole from 100 on, else three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of the table: `text(row)` is empty where the row has none; a column without any text is left out."""

    title: str
    text: Callable[[Row], str]


def _cpu_text(row: Row, unit: str) -> str:
    cpu = row.rates.cpu_microseconds
    return "" if cpu is None or row.unit != unit else f"{cpu:,.3g}"


def _share_text(row: Row) -> str:
    return f"{row.flops_per_second / row.peak_flops:.0%}" if row.peak_flops else ""


def _megabytes_text(row: Row) -> str:
    return f"{row.rates.median * row.bytes_per_image / 1e6:,.0f}" if row.bytes_per_image else ""


_COLUMNS = (
    _Column("images/s", lambda row: rate_text(row) if row.unit == "image" else ""),
    _Column("ms/step", lambda row: f"{1000 / row.rates.median:,.3f}" if row.unit == "step" else ""),
    _Column("GFLOP/s", lambda row: f"{row.flops_per_second / 1e9:,.3g}" if row.flops_per_second else ""),
    _Column("of peak", _share_text),
    _Column("spread", lambda row: f"{row.rates.spread:.0%}"),
    _Column("MB/s", _megabytes_text),
    _Column("CPU us/image", lambda row: _cpu_text(row, "image")),
    _Column("CPU us/step", lambda row: _cpu_text(row, "step")),
)
