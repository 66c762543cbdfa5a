"""Grids of images: which rows they show, what they write, and that every shape of image can be drawn."""

import numpy as np
import pytest

from pipeline.augment.strengths import PRESETS
from pipeline.evaluate import image_grids
from pipeline.evaluate.metrics import evaluate
from pipeline.evaluate.predict import Predictions
from tests.helpers.pictures import DIGITS, LONG, MANY, ODD, check_picture, count_pixels, images, probabilities

RED = (0xC1, 0x12, 0x1F)


@pytest.mark.parametrize(
    ("names", "image_shape"),
    [(LONG, (6, 8, 1)), (DIGITS, (6, 8, 2)), (ODD, (30, 3, 3)), (MANY, (6, 8, 1)), (LONG, (1, 40, 1))],
    ids=["long names", "two channels", "tall colour, odd names", "130 classes", "one line of pixels"],
)
def test_samples(tmp_path, names, image_shape):
    labels = np.arange(90) % (len(names) - 1)  # the last class does not occur
    image_grids.samples(images(90, image_shape), labels, names, tmp_path / "figure.png", "train")
    check_picture(tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("names", "image_shape", "rows"),
    [(DIGITS, (6, 6, 1), 90), (LONG, (4, 12, 3), 20), (ODD, (30, 3, 2), 3), (DIGITS, (6, 6, 1), 1)],
    ids=["more than fit", "long names, wide colour", "odd names, tall, two channels", "one row"],
)
@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
def test_predictions(tmp_path, names, image_shape, rows, labelled):
    labels = np.arange(rows) % len(names) if labelled else np.full(rows, -1)
    predictions = Predictions.of(probabilities(rows, len(names)), labels)
    image_grids.predictions(images(rows, image_shape), predictions, names, tmp_path / "figure.png", "val")
    check_picture(tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("labels", "any_red"),
    [(np.arange(10), False), (np.full(10, -1), False), (np.r_[np.arange(9), 0], True)],
    ids=["correct", "unlabelled", "one wrong"],
)
def test_only_wrong_predictions_are_red(tmp_path, labels, any_red):
    path = tmp_path / "figure.png"
    predictions = Predictions.of(np.eye(10, dtype=np.float32), labels)
    image_grids.predictions(images(10, (6, 6, 1)), predictions, DIGITS, path, "val")
    assert (count_pixels(path, RED) > 500) == any_red


@pytest.mark.parametrize(
    ("names", "image_shape", "rows"),
    [
        (DIGITS, (6, 6, 1), 400),
        (LONG, (4, 12, 3), 20),
        (ODD, (30, 3, 2), 6),
        (MANY, (6, 8, 1), 90),
        (LONG, (1, 40, 1), 2),
    ],
    ids=["more than fit", "long names, wide colour", "odd names, tall", "130 classes", "one line of pixels"],
)
def test_confused(tmp_path, names, image_shape, rows):
    labels = np.arange(rows) % len(names)
    predictions = Predictions.of(probabilities(rows, len(names)), labels)
    evaluation = evaluate("val", predictions, names)
    image_grids.confused(images(rows, image_shape), predictions, evaluation, tmp_path / "figure.png")
    check_picture(tmp_path / "figure.png")


def test_confused_pairs_show_their_own_images_worst_first(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(image_grids, "_mosaic", lambda images, rows, *_: shown.extend(rows) or images[0])
    labels, predicted = np.array([0, 0, 1, 0, 2, 1, 0]), np.array([1, 1, 0, 1, 2, 1, 2])
    confidence = np.array([0.6, 0.9, 0.8, 0.7, 0.9, 0.9, 0.5], np.float32)
    predictions = Predictions(labels, predicted, confidence, confidence / 10)
    evaluation = evaluate("val", predictions, DIGITS[:3])
    image_grids.confused(images(7, (4, 4, 1)), predictions, evaluation, tmp_path / "figure.png")
    assert [rows.tolist() for rows in shown] == [[1, 3, 0], [6], [2]]


@pytest.mark.parametrize(
    ("labels", "limit", "expected"),
    [
        ([0, 1, 0, 1], 4, [3, 1, 0, 2]),
        ([0, 1, 0, 1], 2, [3, 0]),
        ([1, 1, 1, 1], 3, [3, 2, 1]),
        ([0, 0, 0, 0], 3, [0, 1, 2]),
        ([-1, -1, -1, -1], 2, [0, 1]),
        ([-1, 1, -1, -1], 4, [1, 0, 2, 3]),
    ],
    ids=["wrong first", "half for wrong ones", "all wrong", "none wrong", "unlabelled: doubtful first", "some labels"],
)
def test_rows_that_are_shown(labels, limit, expected):
    confidence = np.array([0.6, 0.7, 0.8, 0.9], np.float32)
    predictions = Predictions(np.array(labels), np.zeros(4, int), confidence, confidence)
    assert image_grids.choose_rows(predictions, limit).tolist() == expected


@pytest.mark.parametrize(("count", "limit", "expected"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (7, 1, [0])])
def test_evenly(count, limit, expected):
    assert image_grids.evenly(np.arange(count), limit).tolist() == expected


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ("3", "7", "3 → 7 (90%)"),
        ("7", "7", "7 (90%)"),
        (None, "7", "7 (90%)"),
        ("no finding", "fracture", "no finding →\nfracture (90%)"),
        (None, "a name that is long", "a name that i… (90%)"),
    ],
)
def test_caption(true, predicted, expected):
    assert image_grids.caption(true, predicted, 0.9) == expected


@pytest.mark.parametrize(
    ("names", "image_shape", "labels"),
    [
        (LONG, (28, 28, 1), np.arange(30) % 2),
        (DIGITS, (8, 8, 1), np.arange(30) % 10),
        (ODD, (30, 8, 3), np.full(30, -1)),
        (MANY, (6, 8, 2), np.arange(130)),
        (DIGITS, (8, 8, 1), np.array([3])),
    ],
    ids=["two classes", "small", "unlabelled, tall colour", "130 classes", "one row"],
)
@pytest.mark.parametrize("preset", ["none", "digits", "photos"])
def test_augmented_samples(tmp_path, names, image_shape, labels, preset):
    rows = images(len(labels), image_shape)
    image_grids.augmented_samples(rows, labels, names, PRESETS[preset], 3, tmp_path / "figure.png")
    check_picture(tmp_path / "figure.png")
