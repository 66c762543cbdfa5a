"""Evaluations against figures worked out by hand."""

import io
import json
import math

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluate import evaluation as report

NAMES = ("ka", "kha", "ga")


def certain(predicted, num_classes=3, certainty=0.8):
    """Probabilities with `certainty` for the predicted class and the rest shared."""
    probabilities = np.full((len(predicted), num_classes), (1 - certainty) / (num_classes - 1), np.float32)
    probabilities[np.arange(len(predicted)), predicted] = certainty
    return probabilities


@pytest.fixture
def mixed():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    return report.evaluate_probabilities("val", labels, certain(predicted), NAMES)


def test_confusion_has_true_rows_and_predicted_columns(mixed):
    assert mixed.confusion.dtype == np.int64
    assert mixed.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_loss_is_the_mean_cross_entropy_in_nats(mixed):
    assert mixed.loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.1)) / 6)
    assert mixed.accuracy == pytest.approx(4 / 6)


def test_figures_of_the_classes(mixed):
    assert mixed.precision == pytest.approx([2 / 3, 1 / 2, 1])
    assert mixed.recall == pytest.approx([2 / 3, 1 / 2, 1])
    assert mixed.support.tolist() == [3, 2, 1]


def test_loss_agrees_with_keras(mixed):
    import keras

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3) / 10, size=200).astype(np.float32)
    labels = rng.integers(0, 3, 200)
    expected = float(np.mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities)))
    assert report.evaluate_probabilities("val", labels, probabilities, NAMES).loss == pytest.approx(expected, rel=1e-4)


def test_class_that_does_not_occur_is_undefined_without_a_warning(recwarn):
    found = report.evaluate_probabilities("val", np.array([0, 1]), certain([0, 1]), NAMES)
    assert not recwarn
    assert np.isnan([found.precision[2], found.recall[2], found.f1[2]]).all()
    assert found.to_dict()["classes"][2] == {
        "name": "ga",
        "precision": None,
        "recall": None,
        "f1": None,
        "support": 0,
    }


def test_class_that_is_never_predicted_has_recall_zero():
    found = report.evaluate_probabilities("val", np.array([0, 2]), certain([0, 0]), NAMES)
    assert math.isnan(found.precision[2])
    assert (found.recall[2], found.f1[2]) == (0, 0)


def test_confident_miss_has_a_finite_loss():
    probabilities = np.array([[1, 0, 0]], np.float32)
    assert report.evaluate_probabilities("val", np.array([1]), probabilities, NAMES).loss == pytest.approx(16.118, 1e-3)


@pytest.mark.parametrize(
    ("labels", "spoil", "message"),
    [
        ([0, -1], 0.5, "row 1 has no label"),
        ([], 0.5, "no rows"),
        ([0, 1], np.nan, "row 0 is not a number.*diverged"),
        ([0, 1], np.inf, "not a number"),
    ],
    ids=["unlabelled row", "empty split", "NaN", "infinity"],
)
def test_refused(labels, spoil, message):
    probabilities = np.full((len(labels), 3), spoil, np.float32)
    with pytest.raises(InputError, match=message):
        report.evaluate_probabilities("val", np.array(labels, int), probabilities, NAMES)


def test_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"labels 0\.\.3, expected 0\.\.2"):
        report.evaluate_probabilities("val", np.array([0, 3]), certain([0, 1]), NAMES)


def test_json_holds_every_split_and_reads_back(tmp_path, mixed):
    other = report.evaluate_probabilities("train", np.array([0]), certain([0]), NAMES, split_examples=500)
    report.write_evaluations(tmp_path / "evaluation.json", [mixed, other])
    found = json.loads((tmp_path / "evaluation.json").read_text())["splits"]
    assert list(found) == ["val", "train"]
    assert found["val"]["confusion"] == mixed.confusion.tolist()
    assert (found["train"]["num_examples"], found["train"]["split_examples"]) == (1, 500)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def table_of(evaluations, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    report.print_evaluations(evaluations, file)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_table_off_a_terminal_is_plain_ascii(mixed):
    text = table_of([mixed], "ascii")
    assert "| val   |    6 | 0.9163 |   66.67% |" in text
    assert "| kha   |    2 |    0.5000 | 0.5000 | 0.5000 |" in text
    assert "\x1b" not in text


def test_table_says_that_rows_are_a_sample():
    found = report.evaluate_probabilities("train", np.array([0]), certain([0]), NAMES, split_examples=54_000)
    text = table_of([found])
    assert "| train | 1 of 54,000 |" in text
    assert "precision" not in text, "the classes of train are in evaluation.json only"


def test_table_shows_undefined_figures_as_not_available():
    found = report.evaluate_probabilities("val", np.array([0, 1]), certain([0, 1]), NAMES)
    assert "| ga    |    0 |       n/a |    n/a |    n/a |" in table_of([found])


@pytest.mark.parametrize("name", ["[red]", ":apple:", "[/]"])
def test_names_are_no_markup(name):
    found = report.evaluate_probabilities("val", np.array([0, 1]), certain([0, 1], 2), (name, "b"))
    assert name in table_of([found])


def test_letters_that_the_stream_lacks_do_not_break_the_table():
    found = report.evaluate_probabilities("val", np.array([0, 1]), certain([0, 1], 2), ("\u0ce6", "b"))
    assert "?" in table_of([found], "ascii")
    assert "\u0ce6" in table_of([found], "utf-8")
