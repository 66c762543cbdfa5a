"""Figures are looked at by people; here: each case gives a readable PNG with nothing cut off at its border."""

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from pipeline.evaluate import figures, image_grids, style
from pipeline.evaluate.metrics import evaluate_probabilities
from pipeline.format.manifest import Manifest, Split, Validation

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LONG = ("no finding", "an extraordinarily long name of a class that nobody can print")
STRANGE = ("$x$", "[b]_^{", "\u0ce6\u0ce7", "a\nb\tc")
MANY = tuple(f"character {k}" for k in range(130))
CLASSES = {"long names": LONG, "digits": DIGITS, "letters": LETTERS, "strange names": STRANGE, "130 classes": MANY}
every_class_set = pytest.mark.parametrize("names", CLASSES.values(), ids=CLASSES.keys())


@pytest.fixture
def look(tmp_path):
    """Gives a path; afterwards the PNG there must have its frame white and something inside, and be alone."""
    path = tmp_path / "figure.png"
    yield path
    pixels = matplotlib.image.imread(path)[..., :3]
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 1).all()
    assert (pixels < 0.5).any()
    assert max(pixels.shape) < 4000
    assert list(tmp_path.iterdir()) == [path]


def manifest(names, *splits):
    found = {split.name: split for split in splits}
    return Manifest("letters", (4, 4, 1), names, found, (), Validation(), (0.0,), (1.0,), 1)


def split(name, counts):
    return Split(name, sum(counts) or 50, tuple(counts), ())


def pixels(rows, image_shape):
    return (np.arange(rows * np.prod(image_shape)) * 37 % 256).astype(np.uint8).reshape(rows, *image_shape)


def probabilities(rows, num_classes):
    return np.random.default_rng(0).dirichlet(np.ones(num_classes), rows).astype(np.float32)


@every_class_set
def test_class_balance(look, names):
    counts = [100 + 7 * k for k in range(len(names))]
    figures.class_balance(manifest(names, split("train", counts), split("val", counts), split("test", [])), look)


@every_class_set
def test_confusion(look, names):
    labels = np.arange(400) % (len(names) - 1)  # the last class does not occur
    found = evaluate_probabilities("val", labels, probabilities(400, len(names)), names, 4000)
    figures.confusion(found, look)


def test_confusion_without_any_error(look):
    found = evaluate_probabilities("val", np.arange(10), np.eye(10, dtype=np.float32), DIGITS)
    figures.confusion(found, look)


def rgb(path):
    return (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)


def test_one_error_in_ten_thousand_is_seen(look):
    labels = np.arange(10_000) % 10
    certain = np.eye(10, dtype=np.float32)[labels]
    certain[3] = certain[4]
    figures.confusion(evaluate_probabilities("val", labels, certain, DIGITS), look)
    darkest = np.array([127, 39, 4])  # the end of the map "Oranges": one cell and the end of the colour bar
    assert (np.abs(rgb(look) - darkest).sum(axis=1) < 6).sum() > 1000


EPOCH = {"epoch": 1, "loss": 0.9, "accuracy": 0.7, "val_loss": 0.8, "val_accuracy": 0.75}


@pytest.mark.parametrize(
    "history",
    [
        [EPOCH],
        [{**EPOCH, "epoch": k} for k in range(1, 8)],
        pd.DataFrame([EPOCH, {**EPOCH, "epoch": 2, "val_loss": np.nan}]),
        [{"epoch": 1, "loss": 0.9, "accuracy": 0.7}],
        [{**EPOCH, "val_loss": None, "val_accuracy": None}],
    ],
    ids=["one epoch", "seven", "data frame with a gap", "no validation", "validation is None"],
)
def test_curves(look, history):
    figures.curves(history, look)


@pytest.mark.parametrize(
    ("names", "image_shape"),
    [(LONG, (6, 8, 1)), (DIGITS, (6, 8, 2)), (STRANGE, (30, 3, 3)), (MANY, (6, 8, 1))],
    ids=["long names", "two channels", "tall colour, strange names", "130 classes"],
)
def test_samples(look, names, image_shape):
    labels = np.arange(90) % (len(names) - 1)  # the last class does not occur
    image_grids.samples(pixels(90, image_shape), labels, names, look)


@pytest.mark.parametrize(
    ("names", "image_shape", "rows"),
    [
        (DIGITS, (6, 6, 1), 90),
        (LONG, (4, 12, 3), 20),
        (LETTERS, (30, 3, 1), 9),
        (STRANGE, (6, 6, 2), 3),
        (DIGITS, (6, 6, 1), 1),
    ],
    ids=["more than fit", "long names, wide colour", "tall", "strange names, two channels", "one row"],
)
def test_predictions(look, names, image_shape, rows):
    labels = np.arange(rows) % len(names)
    image_grids.predictions(pixels(rows, image_shape), labels, probabilities(rows, len(names)), names, look, "val")


@pytest.mark.parametrize("rows", [1, 41])
def test_predictions_without_labels(look, rows):
    image_grids.predictions(pixels(rows, (6, 6, 1)), None, probabilities(rows, 10), DIGITS, look, "test")


def red_pixels(path):
    return (np.abs(rgb(path) - [0xC1, 0x12, 0x1F]).sum(axis=1) < 6).sum()


def test_only_wrong_predictions_are_red(tmp_path):
    images, certain = pixels(10, (6, 6, 1)), np.eye(10, dtype=np.float32)
    for name, labels in {"right": np.arange(10), "unlabelled": None, "wrong": np.r_[np.arange(9), 0]}.items():
        image_grids.predictions(images, labels, certain, DIGITS, tmp_path / name)
    assert red_pixels(tmp_path / "right") == 0
    assert red_pixels(tmp_path / "unlabelled") == 0
    assert red_pixels(tmp_path / "wrong") > 500


def surest(*confidences):
    """Probabilities of two classes that say class 0 with these confidences."""
    first = np.array(confidences, np.float32)
    return np.stack([first, 1 - first], axis=1)


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
    assert image_grids.choose_rows(np.array(labels), surest(0.6, 0.7, 0.8, 0.9), limit).tolist() == expected


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
    ("name", "expected"),
    [("ka", "ka"), ("$x$", "$x$"), ("\u0ce6", "U+0CE6"), ("a\nb", "aU+000Ab"), ("x" * 30, "x" * 23 + "…")],
)
def test_names_as_drawn(name, expected):
    assert style.shorten(name) == expected


def test_failure_while_drawing_leaves_the_old_figure(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), style.drawing(path, 2, 2):
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
