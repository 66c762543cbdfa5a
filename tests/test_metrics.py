"""Evaluations against figures worked out by hand."""

import json
import math

import numpy as np
import pytest

from pipeline.evaluate import metrics
from pipeline.evaluate.predict import Predictions

NAMES = ("ka", "kha", "ga")


def evaluate(labels, predicted, names=NAMES, split="val", split_examples=None):
    """Of predictions with probability 0.8 for the predicted class and the rest shared."""
    probabilities = np.full((len(predicted), len(names)), 0.2 / (len(names) - 1), np.float32)
    probabilities[np.arange(len(predicted)), predicted] = 0.8
    return metrics.evaluate(split, Predictions.of(probabilities, np.array(labels, int)), names, split_examples)


@pytest.fixture
def mixed():
    return evaluate([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2])


def test_figures_of_a_small_case(mixed):
    assert mixed.confusion_matrix().dtype == np.int64
    assert mixed.confusion_matrix().tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert mixed.pairs.tolist() == [[0, 0, 2], [0, 1, 1], [1, 0, 1], [1, 1, 1], [2, 2, 1]]
    assert mixed.errors.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert mixed.loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.1)) / 6)
    assert mixed.accuracy == pytest.approx(4 / 6)
    names, precision, recall, f1, support = zip(*mixed.classes, strict=True)
    assert precision == recall == f1 == pytest.approx([2 / 3, 1 / 2, 1])
    assert (names, support) == (NAMES, (3, 2, 1))


def test_loss_agrees_with_keras():
    import keras

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3) / 10, size=200).astype(np.float32)
    labels = rng.integers(0, 3, 200)
    expected = float(np.mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities)))
    evaluation = metrics.evaluate("val", Predictions.of(probabilities, labels), NAMES)
    assert evaluation.loss == pytest.approx(expected, rel=1e-4)


def test_confident_miss_has_a_finite_loss():
    predictions = Predictions.of(np.array([[1, 0, 0]], np.float32), np.array([1]))
    assert metrics.evaluate("val", predictions, NAMES).loss == pytest.approx(16.118, 1e-3)


def test_undefined_figures_are_null_in_json_and_give_no_warning(recwarn):
    evaluation = evaluate([0, 2], [0, 0])
    assert not recwarn
    assert [figures.to_dict() for figures in evaluation.classes[1:]] == [
        {"name": "kha", "precision": None, "recall": None, "f1": None, "support": 0},
        {"name": "ga", "precision": None, "recall": 0, "f1": 0, "support": 1},
    ]


def test_json_holds_every_split(tmp_path, mixed):
    train = evaluate([0], [0], split="train", split_examples=500)
    metrics.write_evaluations(tmp_path / "evaluation.json", [mixed, train])
    splits = json.loads((tmp_path / "evaluation.json").read_text())["splits"]
    assert list(splits) == ["val", "train"]
    assert splits["val"]["confusion"] == mixed.confusion_matrix().tolist()
    assert (splits["train"]["num_examples"], splits["train"]["split_examples"]) == (1, 500)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_many_classes_take_no_more_than_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.Evaluation, "confusion_matrix", None)
    names = tuple(f"c{k}" for k in range(5000))
    labels = np.arange(3000)
    predictions = Predictions(labels, np.where(labels % 3, labels, 7), np.ones(3000), np.ones(3000))
    metrics.write_evaluations(tmp_path / "e.json", [metrics.evaluate("val", predictions, names)])
    text = (tmp_path / "e.json").read_text()
    assert len(text) < 1_000_000
    val = json.loads(text)["splits"]["val"]
    assert len(val["confused_pairs"]) == 1000 and val["confused_pairs"][1] == ["c3", "c7", 1]
    assert len(val["classes"]) == 5000


@pytest.fixture
def printed(capsys):
    def print_evaluations(*evaluations):
        metrics.print_evaluations(evaluations)
        return capsys.readouterr().out

    return print_evaluations


def test_print_shows_the_splits_and_the_classes(printed, mixed):
    text = printed(mixed, evaluate([0], [0], split="train", split_examples=54_000))
    assert "val      loss 0.9163  accuracy 66.67%  (6 rows)" in text
    assert "train    loss 0.2231  accuracy 100.00%  (1 of 54,000 rows, evenly spread)" in text
    assert "         kha     0.5000    0.5000    0.5000         2" in text
    assert text.count("precision") == 1, "the classes of train are in evaluation.json only"


def test_print_has_one_line_for_very_many_classes(printed):
    names = tuple(f"c{k}" for k in range(150))
    text = printed(evaluate([5, 6, 6, 7], [5, 6, 9, 9], names))
    assert "lowest f1 of 150 classes: c7 0.0000, c6 0.6667, c5 1.0000; all are in evaluation.json" in text
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(("name", "shown"), [("a\nb", "'a\\nb'"), ("x" * 99, "x" * 24), ("[red]", "[red]")])
def test_print_keeps_odd_names_on_their_line(printed, name, shown):
    assert f"{shown}     1.0000" in printed(evaluate([0, 1], [0, 1], (name, "b")))
