"""How good the predictions of a split are: loss, accuracy, metrics per class, and which classes are confused."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.evaluate.groups import GroupFigures
from pipeline.evaluate.predict import Predictions
from pipeline.files import write_text
from pipeline.splits import TRAIN

FILE_NAME = "evaluation.json"
MAX_MATRIX_CLASSES = 200  # a confusion matrix grows with their square; above it there are only the pairs that occur

# Keras clips probabilities here before it takes the logarithm (keras.config.epsilon()), so both losses agree.
_MIN_PROBABILITY = 1e-7
_MAX_PAIRS = 10_000  # in the file: about half a megabyte
_MAX_REPORT_CLASSES = 100
_MAX_WORST_CLASSES = 10
_MAX_NAME = 24  # characters; longer ones would widen every line of the report


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


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The results for `num_examples` rows of a split that has `split_examples`.

    `loss` is the mean cross-entropy in nats. `pairs` int64 [p, 3] has the true class, the predicted class and the
    number of rows of all pairs that occur, right or wrong, the most frequent first. `class_report` is the text of the
    metrics per class. `groups` is there if it is known which rows belong together.
    """

    split: str
    num_examples: int
    split_examples: int
    loss: float
    accuracy: float
    classes: tuple[ClassMetrics, ...]
    pairs: np.ndarray
    class_report: str
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
        from sklearn.metrics import confusion_matrix

        true, predicted, rows = self.pairs.T
        return confusion_matrix(true, predicted, labels=np.arange(len(self.classes)), sample_weight=rows)

    def to_dict(self) -> dict:
        """Plain values for JSON; "confusion", or above 200 classes the most frequent "confused_pairs"."""
        values = {name: getattr(self, name) for name in ("num_examples", "split_examples", "loss", "accuracy")}
        if len(self.classes) <= MAX_MATRIX_CLASSES:
            values["confusion"] = self.confusion_matrix().tolist()
        else:
            names = [metrics.name for metrics in self.classes]
            pairs = self.errors[:_MAX_PAIRS].tolist()
            values["confused_pairs"] = [[names[true], names[wrong], rows] for true, wrong, rows in pairs]
        if self.groups is not None:
            values["groups"] = self.groups.to_dict()
        return {**values, "classes": [metrics.to_dict() for metrics in self.classes]}


def evaluate(
    split: str, predictions: Predictions, class_names: Sequence[str], split_examples: int | None = None
) -> Evaluation:
    """Compare predictions with their labels, which are of the classes 0..C-1; at least one row.

    `split_examples` is the size of the split if these rows are a sample of it. Source of the metrics per class:
    scikit-learn's precision_recall_fscore_support.
    """
    from sklearn.metrics import classification_report, precision_recall_fscore_support

    labels, predicted = predictions.labels, predictions.predicted
    # All classes, not only those that occur, so that every report has the same rows.
    options: dict = {"labels": np.arange(len(class_names)), "zero_division": np.nan}
    columns = precision_recall_fscore_support(labels, predicted, **options)
    classes = tuple(map(ClassMetrics, class_names, *(column.tolist() for column in columns)))
    if len(classes) <= _MAX_REPORT_CLASSES:
        names = [_printable(name) for name in class_names]
        text = classification_report(labels, predicted, target_names=names, digits=4, **options)
    else:
        text = _report_worst(classes)
    return Evaluation(
        split=split,
        num_examples=len(labels),
        split_examples=len(labels) if split_examples is None else split_examples,
        loss=float(-np.log(predictions.label_probability.astype(np.float64).clip(_MIN_PROBABILITY, 1)).mean()),
        accuracy=float((predicted == labels).mean()),
        classes=classes,
        pairs=_count_pairs(labels, predicted, len(class_names)),
        class_report=text,
    )


def write_evaluations(path: str | os.PathLike, evaluations: Iterable[Evaluation]) -> None:
    """Write {"splits": {name: metrics}} for all evaluated splits, in their order; the file is complete or absent."""
    splits = {evaluation.split: evaluation.to_dict() for evaluation in evaluations}
    write_text(path, json.dumps({"splits": splits}, indent=1, allow_nan=False) + "\n")


def print_evaluations(evaluations: Sequence[Evaluation]) -> None:
    """Print a line per split, then scikit-learn's report of the classes for each split except train.

    The classes of train are only in evaluation.json: they show what was memorized, which is rarely the question.
    """
    for evaluation in evaluations:
        results = f"loss {evaluation.loss:.4f}  accuracy {evaluation.accuracy:.2%}"
        print(f"{evaluation.split:<8} {results}  ({evaluation.rows_text})")
        if evaluation.groups is not None:
            print(f"{'':<8} {evaluation.groups.describe()}")
    for evaluation in evaluations:
        if evaluation.split != TRAIN:
            print(f"\n{evaluation.split}:\n{evaluation.class_report}")


def _count_pairs(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    # As one number per pair: a matrix would be quadratic in the number of classes.
    pairs, rows = np.unique(labels.astype(np.int64) * num_classes + predicted, return_counts=True)
    order = np.argsort(-rows, kind="stable")
    return np.column_stack([*np.divmod(pairs, num_classes), rows])[order]


def _report_worst(classes: Sequence[ClassMetrics]) -> str:
    """A line instead of the report: of so many classes it would scroll away everything else."""
    evaluated = sorted((metrics for metrics in classes if metrics.support), key=lambda metrics: metrics.f1)
    worst = ", ".join(f"{_printable(metrics.name)} {metrics.f1:.4f}" for metrics in evaluated[:_MAX_WORST_CLASSES])
    return f"lowest f1 of {len(classes):,} classes: {worst}; all are in {FILE_NAME}"


def _printable(name: str) -> str:
    return (name if name.isprintable() else repr(name))[:_MAX_NAME]
