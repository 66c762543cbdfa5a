"""Grids of pictures: examples of each class, and predictions with the wrong ones marked."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluate.style import BLUE, GREY, RED, drawing, label_classes, names_length, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SAMPLES_A_CLASS = 10
_MAX_CLASSES = 60
_COLUMNS, _ROWS = 8, 5  # of the predictions
# Inches:
_CELL = 1.3  # a prediction's picture
_GAP = 0.06  # between pictures
_MARGIN = 0.15
_TITLE = 0.65
_NARROWEST = 6.8  # holds the titles


def samples(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    split: str = "train",
) -> None:
    """One line of pictures a class: up to ten rows of images uint8 [n, H, W, C], evenly spread over the class."""
    names = class_names[:_MAX_CLASSES]
    left = names_length(names) + 2 * _MARGIN
    grid = _Grid(_SAMPLES_A_CLASS, len(names), 0.62 if len(names) <= 20 else 0.45, _aspect(images))
    with drawing(path, *grid.figure_size(left), layout="none") as figure:
        axes = grid.add_axes(figure, left)
        for label in range(len(names)):
            rows = evenly(np.flatnonzero(labels == label), _SAMPLES_A_CLASS)
            for column, row in enumerate(rows):
                grid.place(axes, images[row], column, label)
            if not len(rows):
                axes.text(-0.4, label, "no rows", va="center", color=GREY)
        label_classes(axes.yaxis, names)
        title = f"{shorten(split)}: examples of each class, from {len(labels):,} rows"
        if len(names) < len(class_names):
            title += f"\n(the first {len(names)} of {len(class_names):,} classes)"
        grid.add_title(figure, title)


def predictions(
    images: np.ndarray,
    labels: np.ndarray | None,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    split: str = "",
) -> None:
    """Up to 40 rows with what the model says and its probability; wrong ones come first, framed in red.

    Args:
        images: uint8 [n, H, W, C].
        labels: int [n], or None; rows of label -1 are shown as unlabelled.
        probabilities: float32 [n, C].
        class_names: C names.
        path: the PNG to write.
        split: what the rows are, for the title.
    """
    labels = np.full(len(images), -1) if labels is None else labels
    predicted = probabilities.argmax(axis=1)
    chosen = choose_rows(labels, probabilities, _COLUMNS * _ROWS)
    true = [None if labels[row] < 0 else class_names[labels[row]] for row in chosen]
    texts = [
        caption(name, class_names[predicted[row]], probabilities[row].max())
        for name, row in zip(true, chosen, strict=True)
    ]
    under = 0.1 + 0.15 * max((text.count("\n") + 1 for text in texts), default=0)
    grid = _Grid(min(_COLUMNS, max(len(chosen), 1)), max(-(-len(chosen) // _COLUMNS), 1), _CELL, _aspect(images), under)
    left = max(_MARGIN, (_NARROWEST - grid.width) / 2)
    with drawing(path, *grid.figure_size(left), layout="none") as figure:
        axes = grid.add_axes(figure, left)
        for place, (row, text) in enumerate(zip(chosen, texts, strict=True)):
            wrong = labels[row] not in (-1, predicted[row])
            line, column = divmod(place, _COLUMNS)
            grid.place(axes, images[row], column, line, text, RED if wrong else BLUE, framed=wrong)
        axes.set_yticks([])
        grid.add_title(figure, _title(split, labels, predicted, len(chosen)))


def choose_rows(labels: np.ndarray, probabilities: np.ndarray, limit: int) -> np.ndarray:
    """Up to `limit` rows to show: half of it for doubtful ones, the rest evenly spread over the others.

    Doubtful are the wrong rows, the surest first; where no row has a label, those that the model is least sure of.
    """
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero((labels >= 0) & (labels != probabilities.argmax(axis=1)))
    doubtful = wrong[np.argsort(-confidence[wrong], kind="stable")]
    if (labels < 0).all():
        doubtful = np.argsort(confidence, kind="stable")
    others = np.setdiff1d(np.arange(len(labels)), wrong)
    first = doubtful[: max(limit - len(others), -(-limit // 2))]
    rest = evenly(np.setdiff1d(others, first), limit - len(first))
    return np.concatenate([first, rest]).astype(np.int64)


def evenly(values: np.ndarray, limit: int) -> np.ndarray:
    """Up to `limit` of the values [n], evenly spread, in their order and each at most once."""
    if len(values) <= limit:
        return values
    return values[np.arange(limit) * len(values) // limit]


def caption(true: str | None, predicted: str, probability: float) -> str:
    """At most two lines: `true -> predicted` and the probability where it is wrong, else what was predicted."""
    percent = f"({probability:.0%})"
    if true is None or true == predicted:
        return f"{shorten(predicted, 14)} {percent}"
    arrow = "\N{RIGHTWARDS ARROW}"
    if len(shorten(true)) + len(shorten(predicted)) <= 9:
        return f"{shorten(true)} {arrow} {shorten(predicted)} {percent}"
    return f"{shorten(true, 16)} {arrow}\n{shorten(predicted, 14)} {percent}"


def _title(split: str, labels: np.ndarray, predicted: np.ndarray, num_shown: int) -> str:
    what = f"{shorten(split)}: " if split else ""
    labelled = labels >= 0
    if not labelled.any():
        title = f"{what}predictions for {num_shown} of {len(labels):,} rows"
        return f"{title}\nthe least sure first, then others evenly spread"
    wrong = int((labels != predicted)[labelled].sum())
    return (
        f"{what}{wrong:,} of {labelled.sum():,} predictions are wrong; {num_shown} rows shown\n"
        "red: wrong, the surest first (true \N{RIGHTWARDS ARROW} predicted); blue: others, evenly spread"
    )


def _aspect(images: np.ndarray) -> float:
    height, width = images.shape[1:3]
    return min(max(height / width, 0.25), 4.0)


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Lines of cells `cell` inches wide and `aspect` times as high, with `under` inches for text below each line.

    The axes have one unit a cell in x and one a line in y, with whole numbers at the pictures' centres.
    """

    columns: int
    lines: int
    cell: float
    aspect: float
    under: float = 0.0

    @property
    def pitch(self) -> float:
        return self.cell * self.aspect + self.under

    @property
    def width(self) -> float:
        return self.columns * self.cell

    def figure_size(self, left: float) -> tuple[float, float]:
        return max(left + self.width + _MARGIN, _NARROWEST), self.lines * self.pitch + _TITLE + _MARGIN

    def add_axes(self, figure: "Figure", left: float) -> "Axes":
        width, height = figure.get_size_inches()
        box = (left / width, _MARGIN / height, self.width / width, self.lines * self.pitch / height)
        axes = figure.add_axes(box)
        above = self.cell * self.aspect / 2 / self.pitch  # from a picture's centre to the top of its line
        axes.set(xlim=(-0.5, self.columns - 0.5), ylim=(self.lines - above, -above), xticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def add_title(self, figure: "Figure", title: str) -> None:
        figure.suptitle(title, y=1 - 0.12 / figure.get_size_inches()[1], va="top")

    def place(
        self,
        axes: "Axes",
        image: np.ndarray,
        column: int,
        line: int,
        text: str = "",
        color: str = "black",
        framed: bool = False,
    ) -> None:
        from matplotlib.patches import Rectangle

        across = (self.cell - _GAP) / self.cell / 2
        down = (self.cell * self.aspect - _GAP) / self.pitch / 2
        box = (column - across, column + across, line + down, line - down)
        # Only three channels are colours; of other images the first channel is shown.
        pixels = image if image.shape[-1] == 3 else image[..., 0]
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=box, aspect="auto", interpolation="nearest")
        if framed:
            frame = Rectangle((box[0], box[3]), 2 * across, 2 * down, fill=False, edgecolor=color, linewidth=3)
            axes.add_patch(frame)
        axes.text(column, line + down + 0.05 / self.pitch, text, ha="center", va="top", fontsize=8, color=color)
