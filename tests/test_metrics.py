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
    assert splits["val"]["confused_pairs"] == [["ka", "kha", 1], ["kha", "ka", 1]]
    assert splits["val"]["ece"] == pytest.approx(0.8 - 4 / 6)
    assert [row["num_examples"] for row in splits["val"]["coverages"]] == [6, 6, 6]
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
    assert len(val["classes"]) == 5000 and "confusion" not in val


@pytest.fixture
def printed(capsys):
    def print_evaluations(*evaluations):
        metrics.print_evaluations(evaluations)
        return capsys.readouterr().out

    return print_evaluations


def test_most_confident_rows_are_evaluated_by_coverage():
    rng = np.random.default_rng(4)
    confidence = rng.permutation(np.linspace(0.4, 0.999, 1000)).astype(np.float32)
    labels = np.where(rng.random(1000) < confidence, 1, 0)
    predictions = Predictions(labels, np.ones(1000, int), confidence, np.where(labels, confidence, 0.001))
    evaluation = metrics.evaluate("val", predictions, NAMES)
    assert [row.coverage for row in evaluation.coverages] == [0.99, 0.95, 0.90]
    for coverage, rows, least, accuracy in evaluation.coverages:
        chosen = confidence >= np.sort(confidence)[::-1][round(coverage * 1000) - 1]
        assert (rows, least) == (chosen.sum(), confidence[chosen].min())
        assert accuracy == pytest.approx(labels[chosen].mean())


@pytest.mark.parametrize(("rows", "expected"), [(1, [1, 1, 1]), (10, [10, 10, 9]), (100, [99, 95, 90])])
def test_coverage_is_at_least_what_was_requested(rows, expected):
    zeros = np.zeros(rows, int)
    assert [row.num_examples for row in evaluate(zeros, zeros).coverages] == expected


def test_metrics_of_classes_are_those_of_scikit_learn():
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(5)
    labels, predicted = rng.integers(0, 3, (2, 300))
    evaluation = evaluate(labels, predicted, [*"abcd"])  # the last class does not occur
    options = {"labels": range(4), "zero_division": np.nan}
    columns = precision_recall_fscore_support(labels, predicted, **options)
    for row, *expected in zip(evaluation.classes, *columns, strict=True):
        assert row[1:] == pytest.approx(expected, nan_ok=True)
    np.testing.assert_array_equal(evaluation.confusion_matrix(), confusion_matrix(labels, predicted, labels=range(4)))


def test_print_shows_a_line_per_split_and_what_is_confused(printed, mixed):
    assert printed(mixed, evaluate([0], [0], split="train", split_examples=54_000)).splitlines() == [
        "split        rows  accuracy  log loss     ECE  top 99%  top 95%  top 90%",
        "val             6    66.67%    0.9163  13.33%   66.67%   66.67%   66.67%",
        "train           1   100.00%    0.2231  20.00%  100.00%  100.00%  100.00%",
        "top 99%: accuracy of the 99% of rows with the most confident predictions",
        "train: 1 of 54,000 rows, evenly spread",
        "val: lowest recall  kha 50.00%, ka 66.67%",
        "val: most confused  ka -> kha (1), kha -> ka (1)",
    ]


def test_print_lists_five_of_many_classes(printed):
    names = tuple(f"c{k}" for k in range(150))
    lines = printed(evaluate(np.arange(9), np.arange(9) + 1, names)).splitlines()
    assert lines[-2] == "val: lowest recall  c0 0.00%, c1 0.00%, c2 0.00%, c3 0.00%, c4 0.00%"
    assert lines[-1] == "val: most confused  c0 -> c1 (1), c1 -> c2 (1), c2 -> c3 (1), c3 -> c4 (1), c4 -> c5 (1)"


def test_print_has_short_lines_for_long_names(printed):
    names = tuple(f"{k} is a very long name of a class" for k in range(9))
    text = printed(evaluate(np.arange(8), np.arange(8) + 1, names))
    assert max(map(len, text.splitlines())) <= 100
    assert "0 is a very long name of -> 1 is a very long name of (1)" in text


def test_print_of_a_split_without_errors(printed):
    assert printed(evaluate([0, 1], [0, 1])).endswith("val: no wrong prediction\n")


@pytest.mark.parametrize(("name", "shown"), [("a\nb", "'a\\nb'"), ("x" * 99, "x" * 24), ("[red]", "[red]")])
def test_print_keeps_odd_names_on_their_line(printed, name, shown):
    assert f"most confused  {shown} -> b (1)" in printed(evaluate([0, 1], [1, 1], (name, "b")))
