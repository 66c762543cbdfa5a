"""What a benchmark measured: rows of rates, ratios between rows, the machine; as JSON and as Markdown."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.benchmark.timing import Rates

OURS, BASELINE, LIMIT = "ours", "baseline", "limit"  # groups of rows


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured kind of work. Code picks rows by `id`; `text` is for people only.

    Args:
        group: OURS, BASELINE (what a user would run instead) or LIMIT (what the machine allows).
        bytes_per_image: that leave this stage; 0 if that has no meaning here.
        flops_per_image: floating-point operations that training takes per image; 0 if they are not counted.
        peak_flops: operations per second that the devices can do; 0 if not measured.
    """

    id: str
    text: str
    rates: Rates
    group: str = OURS
    bytes_per_image: int = 0
    flops_per_image: int = 0
    peak_flops: float = 0.0

    @property
    def bytes_per_second(self) -> float:
        return self.rates.median * self.bytes_per_image

    @property
    def flops_per_second(self) -> float:
        return self.rates.median * self.flops_per_image

    @property
    def share_of_peak(self) -> float:
        """`flops_per_second` over `peak_flops`; 0.0 if that was not measured."""
        return self.flops_per_second / self.peak_flops if self.peak_flops else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON. It keeps every round, so that a reader can judge the spread."""
        fields = dataclasses.asdict(self)
        del fields["rates"]
        return {
            **fields,
            "images_per_second": self.rates.median,
            "rounds": self.rates.rounds,
            "spread": self.rates.spread,
            "cpu_microseconds_per_image": self.rates.cpu_microseconds,
        }


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times faster the row with id `above` is than the row with id `below`, in each round.

    It is taken round by round because a noisy minute slows both rows of its round.
    """

    above: str
    below: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def unstable(self) -> bool:
        """Whether the rounds differ by more than the ratio itself, so that it shows nothing."""
        return max(self.rounds) - min(self.rounds) > self.median

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "median": self.median, "unstable": self.unstable}


@dataclasses.dataclass(frozen=True)
class Results:
    """All rows of one run of a benchmark.

    Args:
        compared: pairs of row ids (above, below), for which ratios are reported.
        diagnosis: one sentence that says what the figures mean.

    Raises:
        ValueError: two rows have the same id.
        KeyError: `compared` names a row that does not exist.
    """

    command: str
    machine: Mapping[str, Any]
    rows: Sequence[Row]
    compared: Sequence[tuple[str, str]] = ()
    diagnosis: str = ""

    def __post_init__(self) -> None:
        if len({row.id for row in self.rows}) < len(self.rows):
            raise ValueError(f"rows must have different ids: {[row.id for row in self.rows]}")
        for pair in self.compared:
            self.ratio(*pair)

    def row(self, row_id: str) -> Row:
        """Raises KeyError if no row has this id."""
        return {row.id: row for row in self.rows}[row_id]

    def ratio(self, above: str, below: str) -> Ratio:
        """The ratio of two rows by their ids; they have equally many rounds."""
        pairs = zip(self.row(above).rates.rounds, self.row(below).rates.rounds, strict=True)
        return Ratio(above, below, tuple(high / low for high, low in pairs))

    def to_json(self) -> str:
        """Machine, rows with every round, ratios, diagnosis; indented, with a newline at the end."""
        content = {
            "command": self.command,
            "machine": self.machine,
            "diagnosis": self.diagnosis,
            "rows": [row.to_dict() for row in self.rows],
            "ratios": [self.ratio(*pair).to_dict() for pair in self.compared],
        }
        return json.dumps(content, indent=1) + "\n"

    def to_markdown(self) -> str:
        """The same for people, in a terminal and in docs/benchmarks.md."""
        parts = [describe_machine(self.machine), _table(_ROW_COLUMNS, self.rows)]
        if self.compared:
            parts.append(_table(_RATIO_COLUMNS, [self.ratio(*pair) for pair in self.compared]))
        if self.diagnosis:
            parts.append(self.diagnosis)
        return "\n\n".join(parts)


def describe_machine(machine: Mapping[str, Any]) -> str:
    """Date, hardware, settings that all rows share, and versions, in one line."""
    instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    parts = [machine["date"], f"{', '.join(machine['hardware'])}{instructions}", f"{machine['cores']} cores"]
    if "batch_size" in machine:
        parts += [
            f"batch {machine['batch_size']}",
            f"{machine['steps_per_call']} steps per call",
            machine["precision"],
            f"XLA {'on' if machine['xla'] else 'off'}",
        ]
    names = {"python": "Python", "tensorflow": "TensorFlow", "keras": "Keras"}
    parts += [f"{name} {machine['versions'][key]}" for key, name in names.items()]
    return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class _Column:
    """`text(item)` is "" if an item has no value; a column without any value is omitted."""

    title: str
    text: Callable[[Any], str]
    to_the_right: bool = True


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_ROW_COLUMNS = (
    _Column("row", lambda row: row.id, to_the_right=False),
    _Column("images/s", lambda row: f"{row.rates.median:,.0f}"),
    _Column("GFLOP/s", lambda row: f"{row.flops_per_second / 1e9:,.0f}" if row.flops_per_image else ""),
    _Column("of peak", lambda row: f"{row.share_of_peak:.0%}" if row.peak_flops else ""),
    _Column("spread", lambda row: f"{row.rates.spread:.0%}"),
    _Column("MB/s", lambda row: f"{row.bytes_per_second / 1e6:,.0f}" if row.bytes_per_image else ""),
    _Column("CPU us/image", lambda row: _short(row.rates.cpu_microseconds) if row.rates.cpu_seconds else ""),
    _Column("what it is", lambda row: row.text, to_the_right=False),
)
_RATIO_COLUMNS = (
    _Column("ratio", lambda ratio: f"{ratio.above} / {ratio.below}", to_the_right=False),
    _Column("median", lambda ratio: "unstable" if ratio.unstable else f"{ratio.median:,.2f}"),
    _Column("rounds", lambda ratio: ", ".join(f"{value:,.2f}" for value in ratio.rounds), to_the_right=False),
)


def _table(columns: Sequence[_Column], items: Sequence[Any]) -> str:
    """A Markdown table whose columns also line up in a terminal."""
    lines = []
    for column in columns:
        texts = [column.text(item) for item in items]
        if not any(texts):
            continue
        width = max(map(len, [column.title, *texts]))
        rule = "-" * (width - 1) + (":" if column.to_the_right else "-")
        align = str.rjust if column.to_the_right else str.ljust
        lines.append([align(column.title, width), rule, *(align(text, width) for text in texts)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in zip(*lines, strict=True))
