"""Figures of a data set and of an evaluation, for all kinds of class names; complete or absent."""

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

every_class_set = pytest.mark.parametrize(
    "names",
    [LONG, DIGITS, LETTERS, ODD, MANY, THOUSANDS],
    ids=["long names", "digits", "letters", "odd names", "130 classes", "3,000 classes"],
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "figure.png"


@every_class_set
def test_class_balance(path, names):
    counts = tuple(100 + 7 * k for k in range(len(names)))
    splits = {name: Split(name, sum(counts), counts, ()) for name in ("train", "val")}
    splits["test"] = Split("test", 50, (), ())
    manifest = Manifest("letters", (4, 4, 1), names, splits, (), Validation(), (0.0,), (1.0,), 1)
    figures.class_balance(manifest, path)
    check_picture(path)


@every_class_set
def test_confusion(path, names):
    labels = np.arange(400) % (len(names) - 1)  # the last class does not occur
    figures.confusion(evaluate("val", Predictions.of(probabilities(400, len(names)), labels), names, 4000), path)
    check_picture(path)


@pytest.mark.parametrize("names", [DIGITS, THOUSANDS], ids=["digits", "3,000 classes"])
def test_confusion_without_any_error(path, names):
    rows = np.arange(len(names))
    figures.confusion(evaluate("val", Predictions(rows, rows, rows, rows / 1e4), names), path)
    check_picture(path)


def test_one_error_in_ten_thousand_is_seen(path):
    labels = np.arange(10_000) % 10
    predicted = labels.copy()
    predicted[3] = 4
    figures.confusion(evaluate("val", Predictions(labels, predicted, labels, labels / 10), DIGITS), path)
    darkest = (127, 39, 4)  # the end of the map "Oranges": one cell and the end of the colour bar
    assert count_pixels(path, darkest) > 1000


@every_class_set
def test_confidence(path, names):
    labels = np.arange(400) % len(names)
    predictions = Predictions.of(probabilities(400, len(names)), labels)
    for draw in (figures.confidence, figures.coverage):
        draw(predictions, evaluate("val", predictions, names, 4000), path)
        check_picture(path)


@pytest.mark.parametrize("rows", [1, 10])
def test_confidence_without_any_error(path, rows):
    predictions = Predictions.of(np.eye(10, dtype=np.float32)[:rows], np.arange(rows))
    for draw in (figures.confidence, figures.coverage):
        draw(predictions, evaluate("val", predictions, DIGITS), path)
        check_picture(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ka", "ka"),
        ("$x$", "$x$"),
        ("\u0ce6", "U+0CE6"),
        ("a\nb", "aU+000Ab"),
        ("x" * 24, "x" * 24),
        ("x" * 25, "x" * 23 + "…"),
        ("\n" * 5, "U+000AU+000AU+000AU+000…"),
    ],
)
def test_names_as_drawn(name, expected):
    assert figures.short_name(name) == expected


def test_failure_while_drawing_leaves_the_old_figure(path):
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), figures.drawing(path, 2, 2):
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
