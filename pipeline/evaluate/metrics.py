"""How good the predictions of a split are: loss, accuracy, calibration, and the metrics and confusion of classes."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.evaluate.calibration import Calibration, expected_calibration_error
from pipeline.evaluate.groups import GroupFigures
from pipeline.evaluate.predict import Predictions
from pipeline.files import write_text
from pipeline.mirror import RESULTS_NAME
from pipeline.splits import TRAIN

FILE_NAME = RESULTS_NAME
MAX_MATRIX_CLASSES = 200  # a confusion matrix grows with their square; above it there are only the pairs that occur

# Keras clips probabilities here before it takes the logarithm (keras.config.epsilon()), so both losses agree.
_MIN_PROBABILITY = 1e-7
_MAX_PAIRS = 10_000  # in the file: about half a megabyte
_MAX_LISTED = 5  # classes and pairs on the terminal
_MAX_NAME = 24  # characters on the terminal
_MAX_LINE = 100
_COVERAGES = (0.99, 0.95, 0.90)


class ClassMetrics(NamedTuple):
    """Metrics of a class; NaN if undefined (0/0: the class does not occur, or was never predicted)."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, str | float | None]:
        """Plain values for JSON; undefined ones are None."""
        values = self._asdict().items()
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values}


class Coverage(NamedTuple):
    """The share `coverage` of the rows that are predicted most confidently: their number, least confidence, accuracy.

    If a human looks at all less confident rows, a user gets this accuracy on the others.
    """

    coverage: float
    num_examples: int
    min_confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The results for `num_examples` rows of a split that has `split_examples`.

    `loss` is the mean cross-entropy in nats, `ece` the expected calibration error. `coverages` is for 99, 95 and 90 %.
    `pairs` int64 [p, 3] has the true class, the predicted class and the number of rows of all pairs that occur, right
    or wrong, the most frequent first. `groups` is there if it is known which rows belong together.
    """

    split: str
    num_examples: int
    split_examples: int
    loss: float
    accuracy: float
    ece: float
    coverages: tuple[Coverage, ...]
    classes: tuple[ClassMetrics, ...]
    pairs: np.ndarray
    groups: GroupFigures | None = None

    @property
    def errors(self) -> np.ndarray:
        """The wrong ones of `pairs`."""
        return self.pairs[self.pairs[:, 0] != self.pairs[:, 1]]

    @property
    def rows_text(self) -> str:
        """How many rows were evaluated, and of how many if they are a sample."""
        if self.num_examples == self.split_examples:
            return f"{self.num_examples:,} rows"
        return f"{self.num_examples:,} of {self.split_examples:,} rows, evenly spread"

    def confusion_matrix(self) -> np.ndarray:
        """int64 [C, C]: rows true and columns predicted."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        matrix[self.pairs[:, 0], self.pairs[:, 1]] = self.pairs[:, 2]
        return matrix

    def to_dict(self) -> dict:
        """Plain values for JSON; "confusion" only up to 200 classes, "confused_pairs" the 10,000 most frequent."""
        values = {name: getattr(self, name) for name in ("num_examples", "split_examples", "loss", "accuracy", "ece")}
        values["coverages"] = [coverage._asdict() for coverage in self.coverages]
        names = [metrics.name for metrics in self.classes]
        pairs = self.errors[:_MAX_PAIRS].tolist()
        values["confused_pairs"] = [[names[true], names[wrong], rows] for true, wrong, rows in pairs]
        if len(names) <= MAX_MATRIX_CLASSES:
            values["confusion"] = self.confusion_matrix().tolist()
        if self.groups is not None:
            values["groups"] = self.groups.to_dict()
        return {**values, "classes": [metrics.to_dict() for metrics in self.classes]}


def evaluate(
    split: str, predictions: Predictions, class_names: Sequence[str], split_examples: int | None = None
) -> Evaluation:
    """Compare predictions with their labels, which are of the classes 0..C-1; at least one row.

    `split_examples` is the size of the split if these rows are a sample of it.
    """
    labels, predicted, correct = predictions.labels, predictions.predicted, ~predictions.wrong
    return Evaluation(
        split=split,
        num_examples=len(labels),
        split_examples=len(labels) if split_examples is None else split_examples,
        loss=float(-np.log(predictions.label_probability.astype(np.float64).clip(_MIN_PROBABILITY, 1)).mean()),
        accuracy=float(correct.mean()),
        ece=expected_calibration_error(predictions.confidence, correct),
        coverages=tuple(_at_coverage(predictions.confidence, correct, coverage) for coverage in _COVERAGES),
        classes=_measure_classes(labels, predicted, class_names),
        pairs=_count_pairs(labels, predicted, len(class_names)),
    )


def write_evaluations(
    path: str | os.PathLike,
    evaluations: Iterable[Evaluation],
    calibration: Calibration | None = None,
    drift: Mapping[str, Any] | None = None,
) -> None:
    """Write {"calibration": ..., "drift": ..., "splits": {name: metrics}}; the file is complete or absent."""
    fitted = None if calibration is None else dataclasses.asdict(calibration)
    splits = {evaluation.split: evaluation.to_dict() for evaluation in evaluations}
    content = {"calibration": fitted, "drift": drift or {}, "splits": splits}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def print_evaluations(evaluations: Sequence[Evaluation]) -> None:
    """Print a table with a line per split; then, except for train, the classes of lowest recall and confused pairs.

    The classes of train are only in evaluation.json: they show what was memorized, which is rarely the question.
    """
    width = max(8, *(len(evaluation.split) + 1 for evaluation in evaluations)) if evaluations else 0
    tops = "".join(f"{f'top {coverage:.0%}':>9}" for coverage in _COVERAGES)
    print(f"{'split':<{width}}{'rows':>9}{'accuracy':>10}{'log loss':>10}{'ECE':>8}{tops}")
    for evaluation in evaluations:
        results = f"{evaluation.num_examples:>9,}{evaluation.accuracy:>10.2%}{evaluation.loss:>10.4f}"
        tops = "".join(f"{coverage.accuracy:>9.2%}" for coverage in evaluation.coverages)
        print(f"{evaluation.split:<{width}}{results}{evaluation.ece:>8.2%}{tops}")
        if evaluation.groups is not None:
            print(f"{'':<{width}} {evaluation.groups.describe()}")
    print("top 99%: accuracy of the 99% of rows with the most confident predictions")
    for evaluation in evaluations:
        if evaluation.num_examples != evaluation.split_examples:
            print(f"{evaluation.split}: {evaluation.rows_text}")
    for evaluation in evaluations:
        if evaluation.split != TRAIN:
            print(_describe_classes(evaluation))


def _describe_classes(evaluation: Evaluation) -> str:
    names = [_printable(metrics.name) for metrics in evaluation.classes]
    recalls = sorted((metrics.recall, k) for k, metrics in enumerate(evaluation.classes) if metrics.support)
    lowest = [f"{names[k]} {recall:.2%}" for recall, k in recalls[:_MAX_LISTED] if recall < 1]
    errors = evaluation.errors[:_MAX_LISTED].tolist()
    pairs = [f"{names[true]} -> {names[predicted]} ({rows:,})" for true, predicted, rows in errors]
    if not pairs:
        return f"{evaluation.split}: no wrong prediction"
    start = f"{evaluation.split}: "
    return f"{_join_few(f'{start}lowest recall  ', lowest)}\n{_join_few(f'{start}most confused  ', pairs)}"


def _join_few(start: str, items: Sequence[str]) -> str:
    """One line of `start` and the items; of long ones only as many as fit."""
    count = len(items)
    while count > 1 and len(start + ", ".join(items[:count])) > _MAX_LINE:
        count -= 1
    return start + ", ".join(items[:count])


def _measure_classes(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """Of all classes, those too that do not occur, so that every report has the same rows."""
    hits, support, found = (
        np.bincount(values, minlength=len(names)) for values in (labels[labels == predicted], labels, predicted)
    )
    with np.errstate(invalid="ignore"):
        ratios = hits / found, hits / support, 2 * hits / (support + found)
    return tuple(map(ClassMetrics, names, *(values.tolist() for values in (*ratios, support))))


def _at_coverage(confidence: np.ndarray, correct: np.ndarray, coverage: float) -> Coverage:
    count = math.ceil(coverage * len(confidence) - 1e-9)
    chosen = np.argsort(-confidence, kind="stable")[:count]
    return Coverage(coverage, count, float(confidence[chosen[-1]]), float(correct[chosen].mean()))


def _count_pairs(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    # As one number per pair: a matrix would be quadratic in the number of classes.
    pairs, rows = np.unique(labels.astype(np.int64) * num_classes + predicted, return_counts=True)
    order = np.argsort(-rows, kind="stable")
    return np.column_stack([*np.divmod(pairs, num_classes), rows])[order]


def _printable(name: str) -> str:
    return (name if name.isprintable() else repr(name))[:_MAX_NAME]
