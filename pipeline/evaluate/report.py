"""The results of a training: the exported model, the evaluation of every labelled split, and figures."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluate import figures, image_grids
from pipeline.evaluate.calibration import Calibration, calibrate
from pipeline.evaluate.metrics import FILE_NAME, Evaluation, evaluate, print_evaluations, write_evaluations
from pipeline.evaluate.predict import Predictions, make_predictor
from pipeline.evaluate.saved_run import export_model
from pipeline.feed.normalize import Normalization
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import Manifest, Split
from pipeline.splits import TRAIN, VAL

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
    quiet: bool = False,
) -> list[Evaluation]:
    """Calibrate the model on the split `val`, if there is one, export it, evaluate it, draw figures and print tables.

    Args:
        run_dir: an existing directory; model.keras, saved_model/, evaluation.json and figures/ in it are replaced.
        model: the float32 inference model, of plain layers; its layer "logits" is divided by the temperature.
        manifest: of the data set in `data_dir`.
        history: one row per epoch, as `figures.curves` takes it; may be empty.
        batch_size: rows evaluated at a time.

    Returns:
        One evaluation per labelled split; the split `train` by at most 10,000 evenly spread rows.

    Raises:
        InputError: a shard is missing or corrupt, or the model's output is not a number.
    """
    run_dir = pathlib.Path(run_dir)
    folder, names = run_dir / FIGURES_NAME, manifest.class_names
    calibration = None
    try:
        calibration = _calibrate(model, manifest, data_dir, normalization, batch_size)
    finally:
        export_model(run_dir, model, normalization, names)  # first: later failures lose nothing of the training
    folder.mkdir(exist_ok=True)
    figures.class_balance(manifest, folder / "class_balance.png")
    if history:
        figures.curves(history, folder / "curves.png")
    predict = make_predictor(model, normalization, manifest.image_shape, batch_size)
    evaluations = []
    for split in manifest.splits.values():
        # One split at a time, so that only one is in memory.
        arrays = _load(data_dir, manifest, split)
        batches = predict([(arrays.images, arrays.labels, arrays.ids)], f"split {split.name}")
        predictions = Predictions.join([Predictions.of(values, labels) for (_, labels, _), values in batches])
        _draw_images(split, arrays, predictions, manifest, folder)
        if split.labelled:
            evaluation = evaluate(split.name, predictions, names, split.num_examples)
            evaluations.append(evaluation)
            if split.name != TRAIN:  # its rows were learned, so their confusion says little
                figures.confusion(evaluation, folder / f"confusion_{split.name}.png")
                figures.confidence(predictions, evaluation, folder / f"confidence_{split.name}.png")
                _draw_confused(arrays.images.reshape(-1, *manifest.image_shape), predictions, evaluation, folder)
    write_evaluations(run_dir / FILE_NAME, evaluations, calibration)
    if not quiet:
        print_evaluations(evaluations)
        if calibration is not None:
            print(calibration.text)
    return evaluations


def _calibrate(
    model: "keras.Model",
    manifest: Manifest,
    data_dir: str | pathlib.Path,
    normalization: Normalization,
    batch_size: int,
) -> Calibration | None:
    split = manifest.splits.get(VAL)
    if split is None or not split.labelled:
        return None
    arrays = load_split(data_dir, manifest, VAL)
    return calibrate(model, normalization, (arrays.images, arrays.labels, arrays.ids), VAL, batch_size)


def _load(data_dir: str | pathlib.Path, manifest: Manifest, split: Split) -> SplitArrays:
    """A split's rows; of `train` an even sample, read row by row because the whole may not fit in memory."""
    if split.name != TRAIN or split.num_examples <= _MAX_TRAIN_ROWS:
        return load_split(data_dir, manifest, split.name)
    # Always the same rows, so that a resumed run reports the same loss.
    rows = image_grids.evenly(np.arange(split.num_examples), _MAX_TRAIN_ROWS)
    shards = np.searchsorted(split.shard_starts, rows, side="right") - 1
    reads = np.column_stack([shards, rows - split.shard_starts[shards], np.ones_like(rows)])
    return SplitReader(data_dir, manifest, TRAIN).read(reads)[0]


def _draw_images(
    split: Split, arrays: SplitArrays, predictions: Predictions, manifest: Manifest, folder: pathlib.Path
) -> None:
    images, names = arrays.images.reshape(-1, *manifest.image_shape), manifest.class_names
    if split.name == TRAIN:
        image_grids.samples(images, arrays.labels, names, folder / "samples.png", TRAIN)
    else:
        image_grids.predictions(images, predictions, names, folder / f"predictions_{split.name}.png", split.name)


def _draw_confused(images: np.ndarray, predictions: Predictions, evaluation: Evaluation, folder: pathlib.Path) -> None:
    path = folder / f"confused_{evaluation.split}.png"
    if len(evaluation.errors):
        image_grids.confused(images, predictions, evaluation, path)
    else:
        path.unlink(missing_ok=True)  # of an earlier run in this directory
