"""Figures of a data set and of a run: the balance of the classes, the curves of training, the confusion of classes."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluate.metrics import Evaluation, rows_text
from pipeline.evaluate.style import BLUE, GREY, VERMILION, drawing, label_classes, names_height, names_length, shorten
from pipeline.format.manifest import Manifest, Split

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MAX_ANNOTATED = 20  # classes; beyond it numbers in the cells of a confusion matrix cannot be read
_LARGEST = 20.0  # inches


def class_balance(manifest: Manifest, path: str | os.PathLike) -> None:
    """Bars of the rows of each class, one panel for each split with labels."""
    labelled = [split for split in manifest.splits.values() if split.labelled]
    unlabelled = [split for split in manifest.splits.values() if not split.labelled]
    width = min(_LARGEST, max(6.4, 0.34 * manifest.num_classes + 1.5))
    below = names_height(manifest.class_names, (width - 1.2) / manifest.num_classes)
    with drawing(path, width, 1.0 + 1.9 * len(labelled) + below) as figure:
        panels = figure.subplots(len(labelled), sharex=True, squeeze=False)[:, 0]
        for axes, split in zip(panels, labelled, strict=True):
            _balance_panel(axes, split)
        label_classes(panels[-1].xaxis, manifest.class_names, upright=below > 0)
        panels[-1].set_xlabel("class")
        title = f"{shorten(manifest.name)}: rows of each class"
        for split in unlabelled:
            title += f"\n{shorten(split.name)}: {split.num_examples:,} rows without labels"
        figure.suptitle(title)


def curves(history: "Sequence[Mapping[str, float]] | pd.DataFrame", path: str | os.PathLike) -> None:
    """Loss and accuracy by epoch, for training and, where the history has it, validation.

    Args:
        history: one row an epoch with `epoch`, `loss`, `accuracy` and maybe `val_loss`, `val_accuracy`.
        path: the PNG to write.
    """
    rows = history if isinstance(history, Sequence) else history.to_dict("records")
    epochs = [row["epoch"] for row in rows]
    with drawing(path, 9.6, 3.8) as figure:
        for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            train, val = _column(rows, key), _column(rows, f"val_{key}")
            axes.plot(epochs, train, color=BLUE, marker="o", markersize=3, label="train")
            if not np.isnan(val).all():
                axes.plot(epochs, val, color=VERMILION, marker="s", markersize=3, linestyle="--", label="val")
            _finish_curve(axes, key, epochs, val)


def confusion(evaluation: Evaluation, path: str | os.PathLike) -> None:
    """Matrix of true rows and predicted columns, coloured by the share of the true class's rows.

    Right ones (the diagonal) are blue on a scale to 100%, errors orange on a scale of their own up to the largest, so
    that they are seen at 99% accuracy as well. Up to 20 classes the cells show how many rows they hold.
    """
    counts, num_classes = evaluation.confusion, len(evaluation.class_names)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.full(counts.shape, np.nan), where=support > 0)
    side = min(_LARGEST, max(4.6, (0.5 if num_classes <= _MAX_ANNOTATED else 0.26) * num_classes))
    left = names_length(evaluation.class_names)
    below = names_height(evaluation.class_names, side / num_classes)
    with drawing(path, side + left + 1.9, side + below + 1.0) as figure:
        axes = figure.subplots()
        axes.spines[:].set_visible(False)
        diagonal = np.eye(num_classes, dtype=bool)
        largest = np.where(diagonal, 0, np.nan_to_num(shares)).max()
        axes.set_facecolor("0.9")  # shows through where a class has no rows
        axes.imshow(np.ma.masked_where(~diagonal | np.isnan(shares), shares), cmap="Blues", vmin=0, vmax=1.25)
        errors = np.ma.masked_where(diagonal | np.isnan(shares), shares)
        image = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=largest or 0.01)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, format=lambda share, _: f"{100 * share:.3g}%")
        bar.set_label("errors: share of the true class's rows")
        bar.outline.set_visible(False)
        _grid(axes, num_classes)
        label_classes(axes.xaxis, evaluation.class_names, upright=below > 0)
        label_classes(axes.yaxis, evaluation.class_names)
        axes.set(xlabel="predicted class", ylabel="true class")
        if num_classes <= _MAX_ANNOTATED:
            _annotate(axes, counts, shares, largest)
        wrong = evaluation.num_examples - int(np.trace(counts))
        rows = f"{shorten(evaluation.split)}: {rows_text(evaluation)}"
        figure.suptitle(f"{rows}\n{evaluation.accuracy:.2%} right, {wrong:,} wrong")


def _balance_panel(axes: "Axes", split: Split) -> None:
    counts = split.class_counts
    axes.bar(range(len(counts)), counts, color=BLUE, width=0.8)
    least, most = min(counts), max(counts)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    axes.set_title(f"{shorten(split.name)}: {split.num_examples:,} rows, {each} a class")
    axes.set_xlim(-0.6, len(counts) - 0.4)
    axes.set_ylabel("rows")
    axes.yaxis.set_major_formatter(lambda rows, _: f"{rows:,.0f}")
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def _column(rows: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
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


def _grid(axes: "Axes", num_classes: int) -> None:
    edges = np.arange(num_classes + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def _annotate(axes: "Axes", counts: np.ndarray, shares: np.ndarray, largest: float) -> None:
    longest = len(str(counts.max()))
    for row, column in np.ndindex(*counts.shape):
        darkness = shares[row, column] / (1.25 if row == column else largest or 1)
        color = "white" if darkness > 0.6 else "black"
        if counts[row, column] == 0:
            color = GREY
        text = f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8 if longest < 5 else 7)
