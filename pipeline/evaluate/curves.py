"""Curves of a training, a figure each: loss, accuracy, learning rate, images/s."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluate.figures import BLUE, PANEL_WIDTH, VERMILION, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The accuracy below which a tenth of the training was is cut off, so that the differences above it are seen.
_CUT = 0.1
CURVES = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate", "images_per_second": "Images/s"}


def curves(history: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], folder: pathlib.Path) -> None:
    """Write curve_loss.png and so on, of training by the steps, or if there are none by the epoch, and of validation.

    Args:
        history: one row per epoch with `epoch`, `step`, `loss`, `accuracy` and maybe `val_loss`, `val_accuracy`, and
            the others of CURVES.
        steps: rows of steps.csv, which have all of CURVES.
        folder: where the PNGs go.
    """
    for key, title in CURVES.items():
        if key in history[0]:
            with drawing(folder / f"curve_{key}.png", PANEL_WIDTH, 3.0) as figure:
                axes = figure.subplots()
                axes.set(title=title, xlabel="epoch")
                _plot_training(axes, history, steps, key)
                if key in ("loss", "accuracy"):
                    _plot_validation(axes, history, key)
                    axes.legend(frameon=False)
                axes.set_xlim(0 if steps else None)
                axes.locator_params(axis="x", integer=True, min_n_ticks=1)
                axes.grid()


def _plot_training(
    axes: "Axes", history: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], key: str
) -> None:
    from matplotlib.ticker import LogLocator, PercentFormatter

    epochs, values = ([row[name] for row in history] for name in ("epoch", key))
    style: dict[str, Any] = {"marker": "o", "markersize": 3}
    if steps:
        epochs, values = [row["step"] / history[0]["step"] for row in steps], [row[key] for row in steps]
        style = {"linewidth": 1}
    axes.plot(epochs, values, color=BLUE, label="train", **style)
    if key == "loss":
        axes.set(yscale="log", ylabel="mean cross-entropy (nats)")
        # Matplotlib labels the minor ticks of less than a decade in TeX, which figures do not parse.
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    elif key == "accuracy":
        low = np.nanmin([np.quantile(values, _CUT), *_validation(history, key)])
        margin = 0.05 * max(1 - low, 0.01)
        axes.set_ylim(low - margin, 1 + margin)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter("{x:,.4g}")
        axes.locator_params(axis="y", nbins=5)


def _plot_validation(axes: "Axes", history: Sequence[Mapping[str, Any]], key: str) -> None:
    val = _validation(history, key)
    if np.isnan(val).all():
        return
    epochs = [row["epoch"] for row in history]
    best = int(np.nanargmax(val) if key == "accuracy" else np.nanargmin(val))
    axes.plot(epochs, val, color=VERMILION, marker="s", markersize=4, linestyle=":", linewidth=1, label="val")
    axes.plot(epochs[best], val[best], marker="o", markersize=9, markerfacecolor="none", color=VERMILION)
    text = f"{val[best]:.2%}" if key == "accuracy" else f"{val[best]:.4f}"
    axes.set_title(f"{axes.get_title(loc='left')} (best val {text}, epoch {epochs[best]})")


def _validation(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    # An epoch without validation has None or no entry at all; both become NaN.
    return np.array([row.get(f"val_{key}") for row in history], float)
