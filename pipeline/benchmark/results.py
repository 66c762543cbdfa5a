"""What a benchmark measured: rows of rates, ratios between rows, the machine; as JSON and as Markdown."""

import dataclasses
import datetime
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.benchmark.timing import Rates
from pipeline.train.devices import Devices
from pipeline.train.environment import processor_flags, processor_name
from pipeline.train.run_plan import RunPlan

# They decide how fast a step is, and a virtual machine's processor name ("AMD EPYC") may not tell which it has.
_INSTRUCTIONS = frozenset(("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "bf16", "sve"))


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured kind of work. Code picks rows by `id`; `text` is for people only.

    Args:
        bytes_per_image: that leave this stage; 0 if that has no meaning here.
        flops_per_image: floating-point operations that training takes per image; 0 if they are not counted.
        peak_flops: operations per second that the devices can do; 0 if not measured.
    """

    id: str
    text: str
    rates: Rates
    bytes_per_image: int = 0
    flops_per_image: int = 0
    peak_flops: float = 0.0

    @property
    def flops_per_second(self) -> float:
        return self.rates.median * self.flops_per_image

    @property
    def share_of_peak(self) -> float:
        """`flops_per_second` over `peak_flops`; 0.0 if that was not measured."""
        return self.flops_per_second / self.peak_flops if self.peak_flops else 0.0


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


@dataclasses.dataclass(frozen=True)
class Results:
    """All rows of one run of a benchmark.

    Args:
        compared: pairs of row ids (above, below), for which ratios are reported.
        diagnosis: one sentence that says what the figures mean.

    Raises:
        ValueError: two rows have the same id.
    """

    command: str
    machine: Mapping[str, Any]
    rows: Sequence[Row]
    compared: Sequence[tuple[str, str]] = ()
    diagnosis: str = ""

    def __post_init__(self) -> None:
        if len({row.id for row in self.rows}) < len(self.rows):
            raise ValueError(f"rows must have different ids: {[row.id for row in self.rows]}")

    def row(self, row_id: str) -> Row:
        """Raises KeyError if no row has this id."""
        return {row.id: row for row in self.rows}[row_id]

    def ratio(self, above: str, below: str) -> Ratio:
        """The ratio of two rows by their ids; they have equally many rounds."""
        pairs = zip(self.row(above).rates.rounds, self.row(below).rates.rounds, strict=True)
        return Ratio(above, below, tuple(high / low for high, low in pairs))

    def to_json(self) -> str:
        """Machine, rows with every round, ratios, diagnosis; indented, with a newline at the end."""
        ratios = [self.ratio(*pair) for pair in self.compared]
        content = {
            "command": self.command,
            "machine": self.machine,
            "diagnosis": self.diagnosis,
            "rows": [{**dataclasses.asdict(row), "images_per_second": row.rates.median} for row in self.rows],
            "ratios": [{**dataclasses.asdict(ratio), "median": ratio.median} for ratio in ratios],
        }
        return json.dumps(content, indent=1) + "\n"

    def to_markdown(self) -> str:
        """The same for people, in a terminal and in docs/benchmarks.md."""
        parts = [machine_line(self.machine), markdown_table(_ROW_COLUMNS, self.rows)]
        if self.compared:
            parts.append(markdown_table(RATIO_COLUMNS, [self.ratio(*pair) for pair in self.compared]))
        return "\n\n".join([*parts, self.diagnosis] if self.diagnosis else parts)


def describe_machine(plans: Sequence[RunPlan], devices: Devices) -> dict[str, Any]:
    """What a rate must be read with: date, machine, data, versions, and the settings that all `plans` share."""
    settings: list[dict[str, Any]] = [
        {
            "batch_size": plan.steps.batch_size,
            "steps_per_call": plan.steps.steps_per_call,
            "precision": plan.precision,
            "xla": "on" if plan.config.xla else "off",
            "feed": plan.feed_plan.feed,
            "scale": plan.config.scale,
        }
        for plan in plans
    ]
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "instructions": sorted(processor_flags() & _INSTRUCTIONS),
        # Those that this process may run on, which may be fewer than the machine has.
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "hardware": devices.hardware(),
        "strategy": devices.name,
        "replicas": devices.replicas.total,
        # As `import_tensorflow` set it or the user has; TensorFlow itself does not report it.
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "num_examples": plans[0].steps.num_examples,
        "image_shape": list(plans[0].manifest.image_shape),
        "versions": {"python": platform.python_version(), **versions},
        **{name: value for name, value in settings[0].items() if all(other[name] == value for other in settings)},
    }


def machine_line(machine: Mapping[str, Any]) -> str:
    """Date, machine, shared settings and versions, of `describe_machine`, in one line."""
    hardware = ", ".join(machine["hardware"])
    parts = [machine["date"], f"{hardware} ({', '.join(machine['instructions'])})", f"{machine['cores']} cores"]
    texts = {"batch_size": "batch {}", "steps_per_call": "{} steps per call", "precision": "{}", "xla": "XLA {}"}
    parts += [text.format(machine[name]) for name, text in texts.items() if name in machine]
    return "; ".join([*parts, *(f"{name} {version}" for name, version in machine["versions"].items())])


def _cpu_time(row: Row) -> str:
    microseconds = statistics.median(row.rates.cpu_seconds) * 1e6
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


_ROW_COLUMNS: dict[str, Callable[[Row], str]] = {
    "row": lambda row: row.id,
    "images/s": lambda row: f"{row.rates.median:,.0f}",
    "GFLOP/s": lambda row: f"{row.flops_per_second / 1e9:,.0f}" if row.flops_per_image else "",
    "of peak": lambda row: f"{row.share_of_peak:.0%}" if row.peak_flops else "",
    "spread": lambda row: f"{row.rates.spread:.0%}",
    "MB/s": lambda row: f"{row.rates.median * row.bytes_per_image / 1e6:,.0f}" if row.bytes_per_image else "",
    "CPU us/image": _cpu_time,
    "what it is": lambda row: row.text,
}
RATIO_COLUMNS: dict[str, Callable[[Ratio], str]] = {
    "ratio": lambda ratio: f"{ratio.above} / {ratio.below}",
    "median": lambda ratio: "unstable" if ratio.unstable else f"{ratio.median:,.2f}",
    "rounds": lambda ratio: ", ".join(f"{value:,.2f}" for value in ratio.rounds),
}


def markdown_table(columns: Mapping[str, Callable[[Any], str]], items: Sequence[Any]) -> str:
    """A Markdown table that also lines up in a terminal: text, columns of numbers, text. Empty columns are omitted."""
    filled = {title: cells for title, text in columns.items() if any(cells := [text(item) for item in items])}
    first, *_, last = columns
    lines = []
    for title, cells in filled.items():
        is_text = title in (first, last)
        width = max(map(len, [title, *cells]))
        align = str.ljust if is_text else str.rjust
        rule = "-" * width if is_text else "-" * (width - 1) + ":"
        lines.append([align(title, width), rule, *(align(cell, width) for cell in cells)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in zip(*lines, strict=True))
