"""Grids of images: examples of each class, augmented images, predictions, and the classes confused most."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.augment.strengths import Augmentation
from pipeline.evaluate.figures import BLUE, GREY, RED, drawing, label_ticks, set_title, short_name
from pipeline.evaluate.metrics import Evaluation
from pipeline.evaluate.predict import Predictions
from pipeline.format.records import UNLABELLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PER_LINE = 10  # images per class, and per confused pair
_AUGMENTED_LINES = 10
_MAX_CLASSES = 60  # rows of the grid; the picture has about 40 pixels for each
_MAX_PAIRS = 10
_CAPTION = 0.25  # height of a probability under an image, as a share of the image's width
_COLUMNS, _ROWS = 8, 5  # of the predictions
_CELL = 1.25  # inches, the width of each of them
_MIN_WIDTH = 6.8  # inches that hold the titles


def samples(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], path: str | os.PathLike, split: str
) -> None:
    """One row of the grid per class: up to ten of the images uint8 [n, H, W, C], evenly spread over the class."""
    names = class_names[:_MAX_CLASSES]
    chosen = [evenly(np.flatnonzero(labels == label), _PER_LINE) for label in range(len(names))]
    cell = 0.62 if len(names) <= 20 else 0.45
    with drawing(path, cell * _PER_LINE + 0.4, cell * _aspect(images) * len(names) + 0.8) as figure:
        axes = _draw_lines(figure, images, chosen, [*map(short_name, names)])
        for label in (label for label, rows in enumerate(chosen) if not len(rows)):
            axes.text(-0.4, label, "no rows", va="center", color=GREY)
        title = f"{short_name(split)}: examples of each class, from {len(labels):,} rows"
        if len(names) < len(class_names):
            title += f"\n(the first {len(names)} of {len(class_names):,} classes)"
        set_title(figure, title)


def augmented_samples(
    images: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    strengths: Augmentation,
    seed: int,
    path: str | os.PathLike,
    dark_background: bool = True,
) -> None:
    """Up to ten of the images uint8 [n, H, W, C], of as many classes as possible, each with nine augmented versions.

    The versions are those that steps 0 to 8 of a run with this seed would draw for a batch of these images.
    """
    from pipeline.augment.preview import augmented_versions  # imports TensorFlow

    rows = _of_many_classes(labels, _AUGMENTED_LINES)
    versions = augmented_versions(images[rows], strengths, seed, _PER_LINE - 1, dark_background)
    tiles = np.concatenate([images[rows], *versions])
    chosen = [np.arange(line, len(tiles), len(rows)) for line in range(len(rows))]
    with drawing(path, _MIN_WIDTH, 0.62 * _aspect(images) * len(rows) + 1.0) as figure:
        axes = _draw_lines(
            figure, tiles, chosen, ["" if labels[row] < 0 else short_name(names[labels[row]]) for row in rows]
        )
        axes.set_xticks([0, (_PER_LINE - 1) / 2 + 0.5], ["original", "augmented versions of it"])
        axes.tick_params(axis="x", length=0)
        set_title(figure, "Images as training sees them")


def predictions(
    images: np.ndarray, predictions: Predictions, class_names: Sequence[str], path: str | os.PathLike, split: str
) -> None:
    """Up to 40 of the images uint8 [n, H, W, C] with the prediction and its probability.

    Wrong ones are framed in red and come first; then others, evenly spread. `split` is what the title calls the rows.
    """
    from matplotlib.patches import Rectangle

    chosen = choose_rows(predictions, _COLUMNS * _ROWS)
    columns, lines = min(_COLUMNS, len(chosen)), -(-len(chosen) // _COLUMNS)
    names = [*class_names, None]  # label -1 takes the last
    captions = [
        caption(names[label], class_names[predicted], confidence)
        for label, predicted, confidence in zip(*(values[chosen] for values in predictions[:3]), strict=True)
    ]
    caption_lines = max(text.count("\n") + 1 for text in captions)
    share = (0.05 + 0.15 * caption_lines) / (_CELL * _aspect(images))  # of an image's height
    with drawing(
        path, max(_MIN_WIDTH, _CELL * columns), lines * _CELL * _aspect(images) * (1 + share) + 0.65
    ) as figure:
        grid = [chosen[start : start + columns] for start in range(0, len(chosen), columns)]
        axes = _draw_lines(figure, images, grid, [""] * lines, share, columns)
        image_bottom = 0.5 - share / (1 + share)  # of a cell from -0.5 to 0.5
        for place, (row, text) in enumerate(zip(chosen, captions, strict=True)):
            line, column = divmod(place, columns)
            color = RED if predictions.wrong[row] else BLUE
            axes.text(column, line + image_bottom, text, ha="center", va="top", color=color, fontsize=8)
            if predictions.wrong[row]:
                frame = (column - 0.48, line - 0.48), 0.96, image_bottom + 0.46
                axes.add_patch(Rectangle(*frame, fill=False, edgecolor=RED, linewidth=3))
        set_title(figure, _title(split, predictions, len(chosen)))


def confused(images: np.ndarray, predictions: Predictions, evaluation: Evaluation, path: str | os.PathLike) -> None:
    """One line for each of the ten pairs of classes that are confused most: images uint8 [n, H, W, C] of its errors.

    The most confidently wrong come first; below each is the probability of the wrong class. `evaluation` is of these
    `predictions`, which are of these images, and has at least one error.
    """
    labels, predicted, confidence = predictions[:3]
    pairs = evaluation.errors[:_MAX_PAIRS].tolist()
    rows = [np.flatnonzero((labels == true) & (predicted == wrong)) for true, wrong, _ in pairs]
    chosen = [wrong[np.argsort(-confidence[wrong], kind="stable")][:_PER_LINE] for wrong in rows]
    names = [short_name(metrics.name, 16) for metrics in evaluation.classes]
    arrow = "\N{RIGHTWARDS ARROW}"
    ticks = [f"{names[true]} {arrow} {names[wrong]} ({count:,})" for true, wrong, count in pairs]
    caption = _CAPTION / _aspect(images)  # as a share of the image's height
    with drawing(path, 0.62 * _PER_LINE + 0.4, 0.62 * (_aspect(images) + _CAPTION) * len(pairs) + 0.9) as figure:
        axes = _draw_lines(figure, images, chosen, ticks, caption)
        for line, shown in enumerate(chosen):
            for column, row in enumerate(shown):
                text = f"{confidence[row]:.0%}"
                bottom = line + 0.5 - 0.5 * caption / (1 + caption)
                axes.text(column, bottom, text, ha="center", va="center", color=RED, fontsize=7)
        shown_text = f"{len(pairs)} of {len(evaluation.errors):,} confused pairs"
        title = f"{short_name(evaluation.split)}: {predictions.wrong.sum():,} wrong predictions; {shown_text}"
        set_title(figure, f"{title}\ntrue {arrow} predicted (rows); the most confident first, with their probability")


def choose_rows(predictions: Predictions, limit: int) -> np.ndarray:
    """Up to `limit` rows to show: half of it for doubtful ones, the rest evenly spread over the others.

    Doubtful rows are the wrong ones, the most confident first; if no row has a label, the least confident rows.
    """
    confidence = predictions.confidence
    wrong, others = np.flatnonzero(predictions.wrong), np.flatnonzero(~predictions.wrong)
    doubtful = wrong[np.argsort(-confidence[wrong], kind="stable")]
    if (predictions.labels == UNLABELLED).all():
        doubtful = np.argsort(confidence, kind="stable")
    # If there are too few others to fill the grid, doubtful ones take their places.
    first = doubtful[: max(limit - len(others), -(-limit // 2))]
    rest = evenly(np.setdiff1d(others, first), limit - len(first))
    return np.concatenate([first, rest]).astype(np.int64)


def evenly(values: np.ndarray, limit: int) -> np.ndarray:
    """Up to `limit` of the values [n], evenly spread, in their order, without repeats."""
    if len(values) <= limit:
        return values
    return values[np.arange(limit) * len(values) // limit]


def caption(true: str | None, predicted: str, probability: float) -> str:
    """At most two lines: `true -> predicted` and the probability if it is wrong, else what was predicted."""
    percent = f"({probability:.0%})"
    if true is None or true == predicted:
        return f"{short_name(predicted, 14)} {percent}"
    arrow = "\N{RIGHTWARDS ARROW}"
    if len(short_name(true)) + len(short_name(predicted)) <= 9:
        return f"{short_name(true)} {arrow} {short_name(predicted)} {percent}"
    return f"{short_name(true, 16)} {arrow}\n{short_name(predicted, 14)} {percent}"


def _of_many_classes(labels: np.ndarray, limit: int) -> np.ndarray:
    """Up to `limit` rows of the labels [n]: an equal number of evenly spread rows from each of as many classes."""
    classes = evenly(np.unique(labels), limit)
    share = max(1, limit // max(1, len(classes)))
    rows = [evenly(np.flatnonzero(labels == label), share) for label in classes]
    return np.concatenate([np.empty(0, np.int64), *rows])


def _title(split: str, predictions: Predictions, num_shown: int) -> str:
    num_labelled = (predictions.labels != UNLABELLED).sum()
    if not num_labelled:
        title = f"{short_name(split)}: predictions for {num_shown} of {len(predictions.labels):,} rows"
        return f"{title}\nthe least confident first, then others evenly spread"
    num_wrong = predictions.wrong.sum()
    return (
        f"{short_name(split)}: {num_wrong:,} of {num_labelled:,} predictions are wrong; {num_shown} rows shown\n"
        "red: wrong, the most confident first (true \N{RIGHTWARDS ARROW} predicted); blue: others, evenly spread"
    )


def _draw_lines(
    figure: "Figure",
    images: np.ndarray,
    rows: Sequence[np.ndarray],
    names: Sequence[str],
    caption: float = 0,
    per_line: int = _PER_LINE,
) -> "Axes":
    """Draw images[rows[i]] as line i, named names[i]: image k of it at (k, i), with room below for a caption."""
    axes = figure.subplots()
    extent = (-0.5, per_line - 0.5, len(rows) - 0.5, -0.5)  # one unit per image
    mosaic = _mosaic(_drawable(images), rows, round(caption * images.shape[1]), per_line)  # 600 axes are slow to draw
    aspect = _aspect(images) * (1 + caption)
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, extent=extent, aspect=aspect, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    label_ticks(axes.yaxis, names)
    figure.set_figwidth(max(_MIN_WIDTH, figure.get_figwidth()))
    return axes


def _mosaic(images: np.ndarray, rows: Sequence[np.ndarray], below: int, per_line: int) -> np.ndarray:
    """One image uint8 [len(rows) * h, per_line * w, C] of images[rows[i]] in line i, with white between them."""
    height, width, channels = images.shape[1:]
    gap = max(1, width // 14)
    shape = (len(rows), per_line, height + 2 * gap + below, width + 2 * gap, channels)
    tiles = np.full(shape, 255, np.uint8)
    for line, chosen in enumerate(rows):
        tiles[line, : len(chosen), gap : gap + height, gap:-gap] = images[chosen]
    return tiles.swapaxes(1, 2).reshape(shape[0] * shape[2], shape[1] * shape[3], channels)


def _drawable(images: np.ndarray) -> np.ndarray:
    """Three channels are colours; of images [..., C] with other channels the first one is shown."""
    return images if images.shape[-1] == 3 else images[..., :1]


def _aspect(images: np.ndarray) -> float:
    """Height over width as drawn: a strip of one pixel's height or width would not be visible."""
    height, width = images.shape[1:3]
    return min(max(height / width, 0.25), 4.0)
