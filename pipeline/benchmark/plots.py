"""A benchmark as a figure: a bar a row, coloured by whose it is, with a whisker from its worst round to its best."""

import os
from typing import TYPE_CHECKING

from pipeline.benchmark.results import LIMIT, OTHERS, OURS, Results, Row, rate_text
from pipeline.evaluate.style import BLUE, GREY, VERMILION, drawing, names_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {OURS: BLUE, OTHERS: VERMILION, LIMIT: GREY}
_LEGEND = {OURS: "ours", OTHERS: "other recipes", LIMIT: "limits of the machine"}
_INCHES_A_ROW = 0.26
_LOG_FROM = 30  # fastest over slowest, from where on the slow bars of a linear scale would be lost


def plot(results: Results, path: str | os.PathLike) -> None:
    """Write the rows that count images (or steps) as a PNG."""
    unit = results.rows[0].unit
    rows = [row for row in results.rows if row.unit == unit]
    names = [row.name for row in rows]
    width = 7.0 + names_length(names, length=_longest(rows))
    with drawing(path, width, 1.3 + _INCHES_A_ROW * len(rows)) as figure:
        axes = figure.subplots()
        _bars(axes, rows)
        axes.set_yticks(range(len(rows)), names)
        axes.set_xlabel(f"{unit}s a second, median of {len(rows[0].rates.rounds)} rounds")
        _legend(axes, rows)
        figure.suptitle(_title(results))


def _longest(rows: list[Row]) -> int:
    return max(len(row.name) for row in rows)


def _bars(axes: "Axes", rows: list[Row]) -> None:
    rates = [row.rates.median for row in rows]
    low = [row.rates.median - min(row.rates.rounds) for row in rows]
    high = [max(row.rates.rounds) - row.rates.median for row in rows]
    colours = [_COLOURS[row.group] for row in rows]
    axes.barh(range(len(rows)), rates, xerr=(low, high), color=colours, height=0.7, error_kw={"linewidth": 0.8})
    ends = [max(row.rates.rounds) for row in rows]
    if max(rates) > _LOG_FROM * min(rates):
        axes.set_xscale("log")
        axes.set_xlim(min(rates) / 2, max(ends) * 6)
    else:
        axes.set_xlim(0, max(ends) * 1.15)
    for place, (row, end) in enumerate(zip(rows, ends, strict=True)):
        axes.annotate(rate_text(row), (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda rate, _: _short(rate))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _legend(axes: "Axes", rows: list[Row]) -> None:
    from matplotlib.patches import Patch

    groups = [group for group in _COLOURS if any(row.group == group for row in rows)]
    if len(groups) > 1:
        patches = [Patch(color=_COLOURS[group], label=_LEGEND[group]) for group in groups]
        axes.figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)


def _title(results: Results) -> str:
    machine = results.machine
    parts = [", ".join(machine.get("hardware") or [machine["processor"]]), f"{machine['cores']} cores"]
    if results.kind != "step":  # whose rows say which settings they are of
        parts.append(f"batch {machine['batch_size']}")
    return f"benchmark.py {results.kind}: {', '.join(parts)}"


def _short(rate: float) -> str:
    """1,500,000 as 1.5M, so that ticks do not run into each other."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:g}{letter}"
    return f"{rate:g}"
