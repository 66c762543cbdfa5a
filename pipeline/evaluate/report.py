"""The results of a training: the exported model, the evaluation of every labelled split, and figures."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.augment.strengths import Augmentation
from pipeline.data_audit.drift import Content, describe_drift
from pipeline.evaluate import figures, image_grids
from pipeline.evaluate.calibration import Calibration, calibrate
from pipeline.evaluate.groups import measure_groups
from pipeline.evaluate.metrics import FILE_NAME, Evaluation, evaluate, write_evaluations
from pipeline.evaluate.predict import KnownRows, Predictions, Predictor, make_predictor, predict_split
from pipeline.evaluate.saved_run import export_model, takes_pixels
from pipeline.feed.holdout import Holdout, LoadedRows, load_rows
from pipeline.feed.normalize import Normalization
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import read_sample
from pipeline.format.manifest import Manifest, Split
from pipeline.format.text_ids import original_ids
from pipeline.splits import HOLDOUT, TRAIN, VAL
from pipeline.status import doing

if TYPE_CHECKING:
    import keras

FIGURES_NAME = "figures"

# The loss of the training split is a reference for the others; so many rows give it to about 1 %.
_MAX_TRAIN_ROWS = 10_000
_AUGMENTED_FROM = 300  # rows, of which a few are drawn


class Report(NamedTuple):
    """The evaluations in the order of the splits, and the calibration, None if no rows validate."""

    evaluations: list[Evaluation]
    calibration: Calibration | None


def write_report(
    run_dir: str | os.PathLike,
    model: "keras.Model",
    manifest: Manifest,
    data_dir: str | pathlib.Path,
    normalization: Normalization,
    batch_size: int = 1024,
    holdout: Holdout | None = None,
) -> Report:
    """Calibrate the model on the validation rows, if there are any, export it, evaluate it and draw the figures.

    Args:
        run_dir: an existing directory; model.keras, saved_model/, evaluation.json and figures/ in it are replaced.
        model: the float32 inference model, of plain layers; its layer "logits" is divided by the temperature.
        manifest: of the data set in `data_dir`.
        batch_size: rows evaluated at a time.
        holdout: what the training held out of `train`, or trained on besides it; None: nothing.

    Returns:
        An evaluation per labelled split, and of the rows held out as `holdout`; the rows trained on as `train`, by at
        most 10,000 evenly spread ones.

    Raises:
        InputError: a shard is missing or corrupt, or the model's output is not a number.
    """
    run_dir = pathlib.Path(run_dir)
    folder, names = run_dir / FIGURES_NAME, manifest.class_names
    holdout, calibration, known = holdout or Holdout(Holdout.default(manifest)), None, None
    try:
        with doing("calibrating"):
            calibration, known = _calibrate(model, manifest, data_dir, normalization, batch_size, holdout)
    finally:
        with doing("exporting the model"):
            model = takes_pixels(model, normalization)
            export_model(run_dir, model, names)  # first: later failures lose nothing of the training
    folder.mkdir(exist_ok=True)
    with doing("drawing figures"):
        figures.class_balance(manifest, folder / "class_balance.png")
    predict = make_predictor(model, manifest.image_shape, batch_size)
    # One split at a time, so that only one is in memory.
    with doing("evaluating and drawing predictions"):
        judged = calibration.split if calibration else ""
        evaluations, contents = [], {}
        for part in evaluated_parts(data_dir, manifest, holdout):
            labels = part.arrays.labels if part.labelled else None
            contents[part.name] = Content.of(part.arrays.images, labels, len(names))
            evaluation = _evaluate(part, predict, manifest, folder, known if part.name == judged else None)
            evaluations += [evaluation] if evaluation else []
    write_evaluations(run_dir / FILE_NAME, evaluations, calibration, describe_drift(contents, TRAIN, names))
    return Report(evaluations, calibration)


def draw_augmented(
    run_dir: pathlib.Path,
    manifest: Manifest,
    data_dir: str | pathlib.Path,
    strengths: Augmentation,
    seed: int,
    dark_background: bool,
) -> None:
    """Draw images of `train` as the training saw them into figures/augmented.png, if it changed them."""
    path = run_dir / FIGURES_NAME / "augmented.png"
    if not strengths:
        path.unlink(missing_ok=True)  # of an earlier run in this directory
        return
    with doing("drawing augmented images"):
        rows = read_sample(data_dir, manifest, TRAIN, _AUGMENTED_FROM)
        images = rows.images.reshape(-1, *manifest.image_shape)
        image_grids.augmented_samples(images, rows.labels, manifest.class_names, strengths, seed, path, dark_background)


class Part(NamedTuple):
    """Rows to evaluate together, of `num_examples` if they are a sample; the group of each, int64 [n], if known.

    `ids` [n] are those of the sources, if they are known and may be text.
    """

    name: str
    arrays: SplitArrays
    labelled: bool
    num_examples: int
    groups: np.ndarray | None = None
    ids: np.ndarray | None = None

    def evaluate(self, predictions: Predictions, class_names: Sequence[str]) -> Evaluation:
        """The figures of predictions for these rows, by group too if groups are known."""
        evaluation = evaluate(self.name, predictions, class_names, self.num_examples)
        if self.groups is None:
            return evaluation
        groups = measure_groups(~predictions.wrong, self.groups, self.arrays.ids if self.ids is None else self.ids)
        return dataclasses.replace(evaluation, groups=groups)


def evaluated_parts(data_dir: str | pathlib.Path, manifest: Manifest, holdout: Holdout) -> Iterator[Part]:
    """What a run that held this out is evaluated on: the rows trained on first, each other split, never both in one."""
    for split in manifest.splits.values():
        if split.name == TRAIN and holdout.in_memory:
            loaded = load_rows(data_dir, manifest, holdout)
            ids = None if loaded.held is None else original_ids(data_dir, manifest, TRAIN, loaded.held.ids)
            yield from _divided(loaded, holdout, ids)
        elif split.name == VAL and holdout.uses_val:
            groups = holdout.groups(np.arange(split.num_examples))
            arrays = load_split(data_dir, manifest, VAL)
            ids = original_ids(data_dir, manifest, VAL, arrays.ids)
            yield Part(VAL, arrays, True, split.num_examples, groups, ids)
        elif split.name != VAL or not holdout.trains_on_val:
            yield Part(split.name, _load(data_dir, manifest, split), split.labelled, split.num_examples)


def _divided(loaded: LoadedRows, holdout: Holdout, ids: np.ndarray | None) -> Iterator[Part]:
    train, held, held_rows = loaded
    yield Part(TRAIN, train.select(image_grids.evenly(np.arange(len(train)), _MAX_TRAIN_ROWS)), True, len(train))
    if held is not None:
        yield Part(HOLDOUT, held, True, len(held), holdout.groups(held_rows), ids)


def _calibrate(
    model: "keras.Model",
    manifest: Manifest,
    data_dir: str | pathlib.Path,
    normalization: Normalization,
    batch_size: int,
    holdout: Holdout,
) -> tuple[Calibration | None, KnownRows | None]:
    """Calibrate on the rows that validate the training, if there are any."""
    name, split = HOLDOUT, manifest.splits.get(VAL)
    if holdout.in_memory:
        rows = load_rows(data_dir, manifest, holdout)[1]
    elif holdout.uses_val and split is not None and split.labelled:
        name, rows = VAL, load_split(data_dir, manifest, VAL)
    else:
        rows = None
    if rows is None:
        return None, None
    return calibrate(model, normalization, (rows.images, rows.labels, rows.ids), name, batch_size)


def _evaluate(
    part: Part, predict: Predictor, manifest: Manifest, folder: pathlib.Path, known: KnownRows | None
) -> Evaluation | None:
    """Draw the figures of a part; its evaluation if it has labels."""
    rows = part.arrays
    predictions = predict_split(predict, (rows.images, rows.labels, rows.ids), f"split {part.name}", known)
    _draw_images(part, predictions, manifest, folder)
    if not part.labelled:
        return None
    evaluation = part.evaluate(predictions, manifest.class_names)
    if part.name != TRAIN:  # its rows were learned, so their confusion says little
        figures.confusion(evaluation, folder / f"confusion_{part.name}.png")
        figures.confidence(predictions, evaluation, folder / f"confidence_{part.name}.png")
        figures.coverage(predictions, evaluation, folder / f"coverage_{part.name}.png")
        _draw_confused(rows.images.reshape(-1, *manifest.image_shape), predictions, evaluation, folder)
    return evaluation


def _load(data_dir: str | pathlib.Path, manifest: Manifest, split: Split) -> SplitArrays:
    """A split's rows; of `train` an even sample, read row by row because the whole may not fit in memory."""
    if split.name != TRAIN or split.num_examples <= _MAX_TRAIN_ROWS:
        return load_split(data_dir, manifest, split.name)
    return read_sample(data_dir, manifest, TRAIN, _MAX_TRAIN_ROWS)  # the same rows when a run is resumed


def _draw_images(part: Part, predictions: Predictions, manifest: Manifest, folder: pathlib.Path) -> None:
    images, names, name = part.arrays.images.reshape(-1, *manifest.image_shape), manifest.class_names, part.name
    if name == TRAIN:
        image_grids.samples(images, part.arrays.labels, names, folder / "samples.png", TRAIN)
    else:
        image_grids.predictions(images, predictions, names, folder / f"predictions_{name}.png", name)


def _draw_confused(images: np.ndarray, predictions: Predictions, evaluation: Evaluation, folder: pathlib.Path) -> None:
    path = folder / f"confused_{evaluation.split}.png"
    if len(evaluation.errors):
        image_grids.confused(images, predictions, evaluation, path)
    else:
        path.unlink(missing_ok=True)  # of an earlier run in this directory
