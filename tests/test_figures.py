"""Figures of a data set and of a run, for all kinds of class names and histories."""

import numpy as np
import pytest

from pipeline.evaluate import figures
from pipeline.evaluate.metrics import evaluate
from pipeline.evaluate.predict import Predictions
from pipeline.format.manifest import Manifest, Split, Validation
from tests.helpers.pictures import (
    DIGITS,
    LETTERS,
    LONG,
    MANY,
    ODD,
    THOUSANDS,
    check_picture,
    count_pixels,
    probabilities,
)

CLASSES = {
    "long names": LONG,
    "digits": DIGITS,
    "letters": LETTERS,
    "odd names": ODD,
    "130 classes": MANY,
    "3,000 classes": THOUSANDS,
}
every_class_set = pytest.mark.parametrize("names", CLASSES.values(), ids=CLASSES.keys())
EPOCH = {"epoch": 1, "loss": 0.9, "accuracy": 0.7, "val_loss": 0.8, "val_accuracy": 0.75}


def manifest(names):
    counts = tuple(100 + 7 * k for k in range(len(names)))
    splits = {name: Split(name, sum(counts), counts, ()) for name in ("train", "val")}
    splits["test"] = Split("test", 50, (), ())
    return Manifest("letters", (4, 4, 1), names, splits, (), Validation(), (0.0,), (1.0,), 1)


@every_class_set
def test_class_balance(tmp_path, names):
    figures.class_balance(manifest(names), tmp_path / "figure.png")
    check_picture(tmp_path / "figure.png")


@every_class_set
def test_confusion(tmp_path, names):
    labels = np.arange(400) % (len(names) - 1)  # the last class does not occur
    predictions = Predictions.of(probabilities(400, len(names)), labels)
    figures.confusion(evaluate("val", predictions, names, 4000), tmp_path / "figure.png")
    check_picture(tmp_path / "figure.png")


@pytest.mark.parametrize("names", [DIGITS, THOUSANDS], ids=["digits", "3,000 classes"])
def test_confusion_without_any_error(tmp_path, names):
    rows = np.arange(len(names))
    figures.confusion(evaluate("val", Predictions(rows, rows, rows, rows / 1e4), names), tmp_path / "figure.png")
    check_picture(tmp_path / "figure.png")


def test_one_error_in_ten_thousand_is_seen(tmp_path):
    labels = np.arange(10_000) % 10
    predicted = labels.copy()
    predicted[3] = 4
    evaluation = evaluate("val", Predictions(labels, predicted, labels, labels / 10), DIGITS)
    figures.confusion(evaluation, tmp_path / "figure.png")
    darkest = (127, 39, 4)  # the end of the map "Oranges": one cell and the end of the colour bar
    assert count_pixels(tmp_path / "figure.png", darkest) > 1000


@pytest.mark.parametrize(
    "history",
    [
        [EPOCH],
        [{**EPOCH, "epoch": k} for k in range(1, 8)],
        [EPOCH, {**EPOCH, "epoch": 2, "val_loss": np.nan}],
        [{"epoch": 1, "loss": 0.9, "accuracy": 0.7}],
        [{**EPOCH, "val_loss": None, "val_accuracy": None}],
    ],
    ids=["one epoch", "seven", "a gap", "no validation", "validation is None"],
)
def test_curves(tmp_path, history):
    figures.curves(history, tmp_path / "figure.png")
    check_picture(tmp_path / "figure.png")
