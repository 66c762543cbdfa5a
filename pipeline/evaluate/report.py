"""The results of a training: the exported model, the evaluation of every labelled split, and figures."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.evaluate import figures, image_grids
from pipeline.evaluate.groups import measure_groups
from pipeline.evaluate.metrics import FILE_NAME, Evaluation, evaluate, write_evaluations
from pipeline.evaluate.predict import Predictions, make_predictor
from pipeline.evaluate.saved_run import export_model
from pipeline.feed.holdout import Holdout, LoadedRows, load_rows
from pipeline.feed.normalize import Normalization
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import Manifest, Split
from pipeline.splits import HOLDOUT, TRAIN, VAL

if TYPE_CHECKING:
    import keras

FIGURES_NAME = "figures"

# The loss of the training split is a reference for the others; so many rows give it to about 1 %.
_MAX_TRAIN_ROWS = 10_000


def write_report(
    run_dir: str | os.PathLike,
    model: "keras.Model",
    manifest: Manifest,
    data_dir: str | pathlib.Path,
    normalization: Normalization,
    history: Sequence[Mapping[str, float]],
    batch_size: int = 1024,
    holdout: Holdout | None = None,
) -> list[Evaluation]:
    """Export the model, evaluate it and draw the figures.

    Args:
        run_dir: an existing directory; model.keras, saved_model/, evaluation.json and figures/ in it are replaced.
        model: the float32 inference model, of plain layers.
        manifest: of the data set in `data_dir`.
        history: one row per epoch, as `figures.curves` takes it; may be empty.
        batch_size: rows evaluated at a time.
        holdout: what the training held out of `train`, or trained on besides it; None: nothing.

    Returns:
        One evaluation per labelled split, and of the rows held out as `holdout`; the rows trained on as `train`, by at
        most 10,000 evenly spread ones.

    Raises:
        InputError: a shard is missing or corrupt, or the model's output is not a number.
    """
    run_dir = pathlib.Path(run_dir)
    folder, names = run_dir / FIGURES_NAME, manifest.class_names
    export_model(run_dir, model, normalization, names)  # first: later failures lose nothing of the training
    folder.mkdir(exist_ok=True)
    figures.class_balance(manifest, folder / "class_balance.png")
    if history:
        figures.curves(history, folder / "curves.png")
    predict = make_predictor(model, normalization, manifest.image_shape, batch_size)
    evaluations = []
    # One split at a time, so that only one is in memory.
    for part in evaluated_parts(data_dir, manifest, holdout or Holdout("none")):
        rows = part.arrays
        batches = predict([(rows.images, rows.labels, rows.ids)], f"split {part.name}")
        predictions = Predictions.join([Predictions.of(values, labels) for (_, labels, _), values in batches])
        _draw_images(part, predictions, manifest, folder)
        if part.labelled:
            evaluation = evaluate(part.name, predictions, names, part.num_examples)
            if part.groups is not None:
                groups = measure_groups(~predictions.wrong, part.groups, rows.ids)
                evaluation = dataclasses.replace(evaluation, groups=groups)
            evaluations.append(evaluation)
            if part.name != TRAIN:  # its rows were learned, so their confusion says little
                figures.confusion(evaluation, folder / f"confusion_{part.name}.png")
    write_evaluations(run_dir / FILE_NAME, evaluations)
    return evaluations


class Part(NamedTuple):
    """Rows to evaluate together, of `num_examples` if they are a sample; the group of each, int64 [n], if known."""

    name: str
    arrays: SplitArrays
    labelled: bool
    num_examples: int
    groups: np.ndarray | None = None


def evaluated_parts(data_dir: str | pathlib.Path, manifest: Manifest, holdout: Holdout) -> Iterator[Part]:
    """What a run that held this out is evaluated on: the rows trained on first, each other split, never both in one."""
    for split in manifest.splits.values():
        if split.name == TRAIN and holdout.in_memory:
            yield from _divided(load_rows(data_dir, manifest, holdout), holdout)
        elif split.name == VAL and holdout.uses_val:
            groups = holdout.groups(np.arange(split.num_examples))
            yield Part(VAL, load_split(data_dir, manifest, VAL), True, split.num_examples, groups)
        elif split.name != VAL or not holdout.trains_on_val:
            yield Part(split.name, _load(data_dir, manifest, split), split.labelled, split.num_examples)


def _divided(loaded: LoadedRows, holdout: Holdout) -> Iterator[Part]:
    train, held, held_rows = loaded
    yield Part(TRAIN, train.select(image_grids.evenly(np.arange(len(train)), _MAX_TRAIN_ROWS)), True, len(train))
    if held is not None:
        yield Part(HOLDOUT, held, True, len(held), holdout.groups(held_rows))


def _load(data_dir: str | pathlib.Path, manifest: Manifest, split: Split) -> SplitArrays:
    """A split's rows; of `train` an even sample, read row by row because the whole may not fit in memory."""
    if split.name != TRAIN or split.num_examples <= _MAX_TRAIN_ROWS:
        return load_split(data_dir, manifest, split.name)
    # Always the same rows, so that a resumed run reports the same loss.
    rows = image_grids.evenly(np.arange(split.num_examples), _MAX_TRAIN_ROWS)
    shards = np.searchsorted(split.shard_starts, rows, side="right") - 1
    reads = np.column_stack([shards, rows - split.shard_starts[shards], np.ones_like(rows)])
    return SplitReader(data_dir, manifest, TRAIN).read(reads)[0]


def _draw_images(part: Part, predictions: Predictions, manifest: Manifest, folder: pathlib.Path) -> None:
    images, names, name = part.arrays.images.reshape(-1, *manifest.image_shape), manifest.class_names, part.name
    if name == TRAIN:
        image_grids.samples(images, part.arrays.labels, names, folder / "samples.png", TRAIN)
    else:
        image_grids.predictions(images, predictions, names, folder / f"predictions_{name}.png", name)
