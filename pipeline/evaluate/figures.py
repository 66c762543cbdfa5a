"""Figures of a data set and of an evaluation: balance of the classes, confusion, and confidence.

`drawing`, `set_title`, `label_ticks` and `short_name` are what all figures share: style, names that can be drawn,
files that are complete or absent.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluate.calibration import NUM_BINS, reliability
from pipeline.evaluate.metrics import MAX_MATRIX_CLASSES, Coverage, Evaluation
from pipeline.evaluate.predict import Predictions
from pipeline.files import replacing
from pipeline.format.manifest import Manifest, Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color).
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"
RED = "#C1121F"  # for what is wrong; dark enough for text, and not to be confused with the blue

PANEL_WIDTH = 4.8  # inches: text is readable on a phone, and a desktop shows two side by side

_MAX_ANNOTATED = 20  # classes; above it numbers in the cells of a confusion matrix cannot be read
_MAX_PAIRS = 40  # drawn if there are too many classes for a matrix
_MAX_SIDE = 20.0  # inches, which are 2,400 pixels
_MAX_TICKS = 60  # on an axis of at most 20 inches
_DPI = 120
_FONT = "DejaVu Sans"  # comes with matplotlib, so that figures look the same everywhere
_INCHES_PER_CHARACTER = 0.08  # at the font size below, a little more than the average
_STYLE: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "figure.titlesize": 11,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    # Names of classes and splits are data: "$x$" is not a formula.
    "text.parse_math": False,
}


@contextlib.contextmanager
def drawing(path: str | os.PathLike, width: float, height: float) -> Iterator["Figure"]:
    """Yield an empty figure of width x height inches; at the end it is written to `path` as PNG.

    Constrained layout makes room for all text. The figure is not one of pyplot's: no window system, nothing to close.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(path) as temporary:
            # The format is given because a temporary name need not end in .png.
            figure.savefig(temporary, dpi=_DPI, format="png", bbox_inches="tight", pad_inches=0.1)


def set_title(figure: "Figure", text: str) -> None:
    """Begin the title at the left edge, which a narrow screen shows first."""
    figure.suptitle(text, x=0.01, ha="left")


def short_name(name: str, length: int = 24) -> str:
    """`name` as it can be drawn: at most `length` characters, those without a glyph as their code points."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(_FONT))
    has_glyph = [char.isprintable() and font.get_char_index(ord(char)) for char in name[:length]]
    drawable = "".join(char if drawn else f"U+{ord(char):04X}" for char, drawn in zip(name, has_glyph, strict=False))
    return drawable if len(name) <= length >= len(drawable) else drawable[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def label_ticks(axis: "Axis", names: Sequence[str], room: float = math.inf) -> None:
    """Name the ticks 0.. of an axis, of very many every k-th, and enlarge the figure by what the names need.

    Names on an x axis are turned upright if they do not fit side by side into `room` inches per tick.
    """
    step = max(1, -(-len(names) // _MAX_TICKS))
    length = _INCHES_PER_CHARACTER * max(map(len, names[::step]), default=0)
    upright = length > 0.9 * room * step
    axis.set_ticks(range(0, len(names), step), names[::step], rotation=90 if upright else 0)
    axis.set_tick_params(length=0)
    figure: Any = axis.get_figure()
    if axis is axis.axes.yaxis:
        figure.set_figwidth(figure.get_figwidth() + length)
    elif upright:
        figure.set_figheight(figure.get_figheight() + length)


def class_balance(manifest: Manifest, path: str | os.PathLike) -> None:
    """Bars of the rows per class, one panel for each split with labels."""
    labelled = [split for split in manifest.splits.values() if split.labelled]
    width = min(_MAX_SIDE, max(PANEL_WIDTH, 0.34 * manifest.num_classes + 1.5))
    with drawing(path, width, 1.0 + 1.9 * len(labelled)) as figure:
        panels = figure.subplots(len(labelled), sharex=True, squeeze=False)[:, 0]
        for axes, split in zip(panels, labelled, strict=True):
            _balance_panel(axes, split)
        label_ticks(panels[-1].xaxis, [*map(short_name, manifest.class_names)], (width - 1.2) / manifest.num_classes)
        panels[-1].set_xlabel("class")
        title = f"{short_name(manifest.name)}: rows per class"
        for split in manifest.splits.values():
            if not split.labelled:
                title += f"\n{short_name(split.name)}: {split.num_examples:,} rows without labels"
        set_title(figure, title)


def confusion(evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Matrix of true rows and predicted columns; above 200 classes, bars of the pairs that are confused most.

    Cells are coloured by the share of the true class's rows: correct ones blue, errors orange up to the largest. So
    errors are visible at 99% accuracy as well. Up to 20 classes the cells show how many rows they hold.
    """
    names = [short_name(metrics.name) for metrics in evaluation.classes]
    wrong = int(evaluation.errors[:, 2].sum())
    title = (
        f"{short_name(evaluation.split)}: {evaluation.rows_text}\n{evaluation.accuracy:.2%} correct, {wrong:,} wrong"
    )
    if len(names) > MAX_MATRIX_CLASSES:
        pairs = evaluation.errors[:_MAX_PAIRS]
        with drawing(path, 7.0, 1.6 + 0.22 * len(pairs)) as figure:
            _plot_pairs(figure.subplots(), pairs, names)
            pairs_text = f"the {len(pairs)} most frequent of {len(evaluation.errors):,} confused pairs"
            set_title(figure, f"{title}\n{pairs_text} (true, predicted)")
        return
    side = min(_MAX_SIDE, max(4.0, (0.42 if len(names) <= _MAX_ANNOTATED else 0.26) * len(names)))
    with drawing(path, side + 0.7, side + 1.8) as figure:
        axes = figure.subplots()
        _plot_matrix(axes, evaluation.confusion_matrix())
        label_ticks(axes.xaxis, names, side / len(names))
        label_ticks(axes.yaxis, names)
        axes.set(xlabel="predicted class", ylabel="true class")
        set_title(figure, title)


def confidence(predictions: Predictions, evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Accuracy by confidence; all rows have labels."""
    with drawing(path, PANEL_WIDTH, 4.0) as figure:
        _plot_reliability(figure.subplots(), reliability(predictions.confidence, ~predictions.wrong))
        title = f"{short_name(evaluation.split)}: {evaluation.rows_text}"
        set_title(figure, f"{title}\nexpected calibration error {evaluation.ece:.2%}")


def coverage(predictions: Predictions, evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Accuracy of the most confident rows by their share; all rows have labels."""
    order = np.argsort(-predictions.confidence, kind="stable")
    with drawing(path, PANEL_WIDTH, 4.0) as figure:
        _plot_coverage(figure.subplots(), ~predictions.wrong[order], evaluation.coverages)
        set_title(figure, f"{short_name(evaluation.split)}: {evaluation.rows_text}")


def _plot_matrix(axes: "Axes", counts: np.ndarray) -> None:
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, np.newaxis]
    diagonal = np.eye(len(counts), dtype=bool)
    largest = shares[~diagonal].max(initial=0) or 0.01  # without errors the scale still needs a length
    # Two colour maps: on one scale a few errors would vanish beside a diagonal of nearly 100%.
    errors = axes.imshow(np.where(diagonal, 0, shares), cmap="Oranges", vmin=0, vmax=largest)
    axes.imshow(np.ma.masked_array(shares, ~diagonal), cmap="Blues", vmin=0, vmax=1.25)
    for row in np.flatnonzero(support == 0):
        axes.axhspan(row - 0.5, row + 0.5, color="0.9")
    for (row, column), rows in np.ndenumerate(counts) if len(counts) <= _MAX_ANNOTATED else ():
        dark = shares[row, column] > (0.75 if row == column else largest / 2)
        size = 8 if counts.max() < 10_000 else 7  # five digits must fit into 0.42 inches
        if rows:
            color = "white" if dark else "black"
            axes.text(column, row, f"{rows}", ha="center", va="center", color=color, fontsize=size)
    bar = axes.figure.colorbar(
        errors, ax=axes, location="bottom", shrink=0.6, aspect=30, format=lambda share, _: f"{100 * share:.3g}%"
    )
    bar.set_label("errors: share of the true class's rows")
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    edges = np.arange(len(counts) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def _plot_pairs(axes: "Axes", pairs: np.ndarray, names: Sequence[str]) -> None:
    bars = axes.barh(np.arange(len(pairs)), pairs[:, 2], color=VERMILION, height=0.7)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.locator_params(axis="x", integer=True)
    label_ticks(axes.yaxis, [f"{names[true]} \N{RIGHTWARDS ARROW} {names[predicted]}" for true, predicted, _ in pairs])
    axes.invert_yaxis()
    axes.set_xlabel("rows")


def _balance_panel(axes: "Axes", split: Split) -> None:
    counts = split.class_counts
    if len(counts) <= MAX_MATRIX_CLASSES:
        axes.bar(range(len(counts)), counts, color=BLUE, width=0.8)
    else:  # thousands of bars take seconds, one outline does not
        axes.stairs(counts, np.arange(len(counts) + 1) - 0.5, color=BLUE, fill=True)
    low, high = min(counts), max(counts)
    per_class = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    axes.set_title(f"{short_name(split.name)}: {split.num_examples:,} rows, {per_class} per class")
    axes.set_xlim(-0.6, len(counts) - 0.4)
    axes.set_ylabel("rows")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.grid(axis="y")


def _plot_reliability(axes: "Axes", bins: np.ndarray) -> None:
    from matplotlib.ticker import PercentFormatter

    rows, _, accuracies = bins.T
    centers = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    bars = axes.bar(centers, accuracies, width=0.9 / NUM_BINS, color=BLUE)
    # A bar of few rows says little, so each tells its number.
    axes.bar_label(bars, [f"{count:,.0f}" if count else "" for count in rows], fontsize=6.5, color=GREY, padding=1)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    axes.legend(frameon=False, loc="upper left")
    axes.set(title="Accuracy by confidence, and number of rows", xlabel="confidence", xlim=(0, 1), ylim=(0, 1.05))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _plot_coverage(axes: "Axes", correct: np.ndarray, coverages: Sequence[Coverage]) -> None:
    """`correct` bool [n] begins with the most confident row."""
    from matplotlib.ticker import PercentFormatter

    count = np.arange(1, len(correct) + 1)
    axes.plot(count / len(correct), correct.cumsum() / count, color=BLUE)
    for row, marker in zip(coverages, "os^", strict=True):
        label = f"{row.coverage:.0%} of rows: {row.accuracy:.2%}"
        axes.plot(row.coverage, row.accuracy, marker, color=VERMILION, markersize=5, label=label)
    axes.set(title="Accuracy of the most confident rows", xlabel="share of all rows")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 1 + 0.05 * (1 - low)))  # no ticks above 100 %
    axes.grid()
    axes.legend(frameon=False, loc="lower left")
