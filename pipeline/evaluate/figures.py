"""Figures of a data set and of a run: the balance of the classes, the curves of training, the confusion of classes."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluate.metrics import MAX_MATRIX_CLASSES, Evaluation
from pipeline.evaluate.style import BLUE, GREY, VERMILION, drawing, label_classes, names_height, names_length, shorten
from pipeline.format.manifest import Manifest, Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_ANNOTATED = 20  # classes; above it numbers in the cells of a confusion matrix cannot be read
_MAX_PAIRS = 40  # drawn if there are too many classes for a matrix
_MAX_SIDE = 20.0  # inches


def class_balance(manifest: Manifest, path: str | os.PathLike) -> None:
    """Bars of the rows per class, one panel for each split with labels."""
    labelled = [split for split in manifest.splits.values() if split.labelled]
    unlabelled = [split for split in manifest.splits.values() if not split.labelled]
    width = min(_MAX_SIDE, max(6.4, 0.34 * manifest.num_classes + 1.5))
    below = names_height(manifest.class_names, (width - 1.2) / manifest.num_classes)
    with drawing(path, width, 1.0 + 1.9 * len(labelled) + below) as figure:
        panels = figure.subplots(len(labelled), sharex=True, squeeze=False)[:, 0]
        for axes, split in zip(panels, labelled, strict=True):
            _balance_panel(axes, split)
        label_classes(panels[-1].xaxis, manifest.class_names, upright=below > 0)
        panels[-1].set_xlabel("class")
        title = f"{shorten(manifest.name)}: rows per class"
        for split in unlabelled:
            title += f"\n{shorten(split.name)}: {split.num_examples:,} rows without labels"
        figure.suptitle(title)


def curves(history: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Loss and accuracy by epoch, for training and, if the history has it, validation.

    Args:
        history: one row per epoch with `epoch`, `loss`, `accuracy` and maybe `val_loss`, `val_accuracy`.
        path: the PNG to write.
    """
    epochs = [row["epoch"] for row in history]
    with drawing(path, 9.6, 3.8) as figure:
        for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            train, val = _column(history, key), _column(history, f"val_{key}")
            axes.plot(epochs, train, color=BLUE, marker="o", markersize=3, label="train")
            if not np.isnan(val).all():
                axes.plot(epochs, val, color=VERMILION, marker="s", markersize=3, linestyle="--", label="val")
            _finish_curve(axes, key, epochs, val)


def confusion(evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Matrix of true rows and predicted columns; above 200 classes, bars of the pairs that are confused most."""
    if len(evaluation.classes) > MAX_MATRIX_CLASSES:
        _draw_pairs(evaluation, path)
    else:
        _draw_matrix(evaluation, path)


def _draw_matrix(evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Cells coloured by the share of the true class's rows: correct ones blue, errors orange up to the largest.

    So errors are visible at 99% accuracy as well. Up to 20 classes the cells show how many rows they hold.
    """
    names = [figures.name for figures in evaluation.classes]
    side = min(_MAX_SIDE, max(4.6, (0.5 if len(names) <= _MAX_ANNOTATED else 0.26) * len(names)))
    below = names_height(names, side / len(names))
    with drawing(path, side + names_length(names) + 1.9, side + below + 1.0) as figure:
        axes = figure.subplots()
        _plot_matrix(axes, evaluation.confusion_matrix())
        label_classes(axes.xaxis, names, upright=below > 0)
        label_classes(axes.yaxis, names)
        axes.set(xlabel="predicted class", ylabel="true class")
        figure.suptitle(_confusion_title(evaluation))


def _plot_matrix(axes: "Axes", counts: np.ndarray) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay

    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, np.newaxis]
    diagonal = np.eye(len(counts), dtype=bool)
    annotated = len(counts) <= _MAX_ANNOTATED
    display = ConfusionMatrixDisplay(np.where(diagonal, 0, shares))
    limits = {"vmin": 0, "vmax": np.where(diagonal, 0, shares).max() or 0.01}
    display.plot(ax=axes, include_values=annotated, cmap="Oranges", colorbar=False, im_kw=limits)
    axes.imshow(np.ma.masked_array(shares, ~diagonal), cmap="Blues", vmin=0, vmax=1.25)
    for row in np.flatnonzero(support == 0):
        axes.axhspan(row - 0.5, row + 0.5, color="0.9")
    for row, column in np.ndindex(counts.shape) if annotated else ():
        text = display.text_[row, column]
        text.set(text=f"{counts[row, column]}", fontsize=8 if counts.max() < 10_000 else 7)
        if counts[row, column] == 0:
            text.set_color(GREY)
        elif row == column:
            text.set_color("white" if shares[row, row] > 0.75 else "black")
    bar = axes.figure.colorbar(display.im_, ax=axes, shrink=0.6, format=lambda share, _: f"{100 * share:.3g}%")
    bar.set_label("errors: share of the true class's rows")
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    _draw_cell_borders(axes, len(counts))


def _draw_cell_borders(axes: "Axes", num_classes: int) -> None:
    edges = np.arange(num_classes + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def _draw_pairs(evaluation: Evaluation, path: str | os.PathLike) -> None:
    from matplotlib.ticker import MaxNLocator

    pairs = evaluation.errors[:_MAX_PAIRS]
    names = [shorten(figures.name) for figures in evaluation.classes]
    labels = [f"{names[true]} \N{RIGHTWARDS ARROW} {names[predicted]}" for true, predicted, _ in pairs]
    with drawing(path, 7.0 + names_length(["", *labels], 60), 1.6 + 0.22 * len(pairs)) as figure:
        axes = figure.subplots()
        bars = axes.barh(np.arange(len(pairs)), pairs[:, 2], color=VERMILION, height=0.7)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.set_yticks(np.arange(len(pairs)), labels)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlabel("rows")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        title = f"the {len(pairs)} most frequent of {len(evaluation.errors):,} confused pairs (true, predicted)"
        figure.suptitle(f"{_confusion_title(evaluation)}\n{title}")


def _confusion_title(evaluation: Evaluation) -> str:
    wrong = int(evaluation.errors[:, 2].sum())
    rows = f"{shorten(evaluation.split)}: {evaluation.rows_text}"
    return f"{rows}\n{evaluation.accuracy:.2%} correct, {wrong:,} wrong"


def _balance_panel(axes: "Axes", split: Split) -> None:
    from matplotlib.ticker import MaxNLocator

    counts = split.class_counts
    if len(counts) <= MAX_MATRIX_CLASSES:
        axes.bar(range(len(counts)), counts, color=BLUE, width=0.8)
    else:  # thousands of bars take seconds, one outline does not
        axes.stairs(counts, np.arange(len(counts) + 1) - 0.5, color=BLUE, fill=True)
    low, high = min(counts), max(counts)
    per_class = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    axes.set_title(f"{shorten(split.name)}: {split.num_examples:,} rows, {per_class} per class")
    axes.set_xlim(-0.6, len(counts) - 0.4)
    axes.set_ylabel("rows")
    axes.yaxis.set_major_formatter(lambda rows, _: f"{rows:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    # An epoch without validation has None or no entry at all.
    return np.array([math.nan if row.get(key) is None else row[key] for row in rows], float)


def _finish_curve(axes: "Axes", key: str, epochs: Sequence[int], val: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    title, text = key.capitalize(), "{:.4f}"
    if key == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        text = "{:.2%}"
    else:
        axes.set_ylabel("mean cross-entropy (nats)")
    if not np.isnan(val).all():
        best = int(np.nanargmin(val) if key == "loss" else np.nanargmax(val))
        title += f" (best val {text.format(val[best])}, epoch {epochs[best]})"
        axes.plot(epochs[best], val[best], marker="o", markersize=9, markerfacecolor="none", color=VERMILION)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color="0.9")
    axes.legend(frameon=False)
