"""What a training leaves behind: the exported model, the evaluation of every labelled split, and figures."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluate import figures, image_grids
from pipeline.evaluate.export import export_model
from pipeline.evaluate.metrics import (
    FILE_NAME,
    Evaluation,
    evaluate_probabilities,
    print_evaluations,
    write_evaluations,
)
from pipeline.evaluate.predict import Predictor, make_predictor
from pipeline.feed.normalize import Normalization
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import ShardReader
from pipeline.format.manifest import Manifest, Split
from pipeline.splits import TRAIN

if TYPE_CHECKING:
    import keras
    import pandas as pd

FIGURES_NAME = "figures"

# The loss of the training split is there to be compared with the others; so many rows give it to about 1 %.
_MAX_TRAIN_ROWS = 10_000


def write_report(
    run_dir: str | os.PathLike,
    model: "keras.Model",
    manifest: Manifest,
    data_dir: str | os.PathLike,
    normalization: Normalization,
    history: "Sequence[Mapping[str, float]] | pd.DataFrame",
    batch_size: int = 1024,
    quiet: bool = False,
) -> list[Evaluation]:
    """Export the model, evaluate it, draw the figures and print the tables.

    The model is written first, so a failure later loses nothing that was trained.

    Args:
        run_dir: an existing directory; model.keras, saved_model/, evaluation.json and figures/ in it are replaced.
        model: the float32 twin of the trained model, of plain layers.
        manifest: of the data set in `data_dir`.
        data_dir: where the shards are.
        normalization: what the model was trained with.
        history: one row an epoch, as `figures.curves` takes it; may be empty.
        batch_size: rows evaluated at a time.
        quiet: print nothing.

    Returns:
        One evaluation for each labelled split; the split `train` by at most 10,000 evenly spread rows.

    Raises:
        InputError: a shard is missing or damaged, or the model's output is not a number.
    """
    run_dir = pathlib.Path(run_dir)
    export_model(run_dir, model, normalization, manifest.class_names)
    folder = run_dir / FIGURES_NAME
    folder.mkdir(exist_ok=True)
    figures.class_balance(manifest, folder / "class_balance.png")
    if len(history):
        figures.curves(history, folder / "curves.png")
    predict = make_predictor(model, normalization, manifest.image_shape, batch_size)
    evaluations = []
    for split in manifest.splits.values():
        # Split by split, so that one of them is in memory at a time.
        arrays = _load(data_dir, manifest, split)
        if len(arrays):
            evaluations += _report_split(split, arrays, predict, manifest, folder)
    write_evaluations(run_dir / FILE_NAME, evaluations)
    if not quiet:
        print_evaluations(evaluations)
    return evaluations


def _load(data_dir: str | os.PathLike, manifest: Manifest, split: Split) -> SplitArrays:
    """A split's rows; of `train` an even sample, read row by row because the whole may not fit in memory."""
    if split.name != TRAIN or split.num_examples <= _MAX_TRAIN_ROWS:
        return load_split(data_dir, manifest, split.name)
    rows = image_grids.evenly(np.arange(split.num_examples), _MAX_TRAIN_ROWS)
    shards = len(split.shards)
    reads = np.column_stack([rows % shards, rows // shards, np.ones_like(rows)])
    return ShardReader(data_dir, manifest, TRAIN).read(reads)[0]


def _report_split(
    split: Split, arrays: SplitArrays, predict: Predictor, manifest: Manifest, folder: pathlib.Path
) -> list[Evaluation]:
    """Figures of one split and, if it has labels, its evaluation."""
    names = manifest.class_names
    images = arrays.images.reshape(-1, *manifest.image_shape)
    probabilities = predict(arrays.images)
    if split.name == TRAIN:
        image_grids.samples(images, arrays.labels, names, folder / "samples.png", split.name)
    else:
        path = folder / f"predictions_{split.name}.png"
        image_grids.predictions(images, arrays.labels, probabilities, names, path, split.name)
    if not split.labelled:
        return []
    found = evaluate_probabilities(split.name, arrays.labels, probabilities, names, split.num_examples)
    if split.name != TRAIN:
        figures.confusion(found, folder / f"confusion_{split.name}.png")
    return [found]
