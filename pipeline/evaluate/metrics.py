"""How good the predictions of a split are: loss, accuracy, confusion, and figures for each class."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

import numpy as np

from pipeline.errors import InputError
from pipeline.files import write_text
from pipeline.format.records import UNLABELLED

if TYPE_CHECKING:
    from rich.table import Table

FILE_NAME = "evaluation.json"
# Keras clips probabilities here before it takes the logarithm (keras.config.epsilon()), so both losses agree.
_SMALLEST_PROBABILITY = 1e-7
_NOT_AVAILABLE = "n/a"


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out for `num_examples` rows of a split that has `split_examples`.

    `loss` is the mean cross-entropy in nats. `confusion` is int64 [C, C], rows true and columns predicted. `precision`,
    `recall` and `f1` are float64 [C], NaN where they are undefined (0/0: the class does not occur, or was never
    predicted); `support` is int64 [C], the rows of each true class.
    """

    split: str
    num_examples: int
    split_examples: int
    loss: float
    accuracy: float
    class_names: tuple[str, ...]
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray

    def to_dict(self) -> dict:
        """Plain values for JSON; undefined figures are None."""
        columns = (self.precision, self.recall, self.f1, self.support)
        classes = [
            {"name": name, "precision": _none(p), "recall": _none(r), "f1": _none(f), "support": int(support)}
            for name, p, r, f, support in zip(self.class_names, *columns, strict=True)
        ]
        return {
            "num_examples": self.num_examples,
            "split_examples": self.split_examples,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "confusion": self.confusion.tolist(),
            "classes": classes,
        }


def evaluate_probabilities(
    split: str,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    split_examples: int | None = None,
) -> Evaluation:
    """Compare probabilities float32 [n, C] with labels int [n] of the classes 0..C-1.

    `split_examples` is the size of the split where these rows are a sample of it. Source of the figures a class:
    scikit-learn's confusion_matrix and precision_recall_fscore_support.

    Raises:
        InputError: there are no rows, a row has no label, or a probability is not a number (training diverged).
        ValueError: shapes or label values do not fit the classes.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    _check(split, labels, probabilities, len(class_names))
    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    return Evaluation(
        split=split,
        num_examples=len(labels),
        split_examples=len(labels) if split_examples is None else split_examples,
        loss=float(-np.log(of_true.clip(_SMALLEST_PROBABILITY, 1)).mean()),
        accuracy=float((predicted == labels).mean()),
        class_names=tuple(class_names),
        confusion=confusion_matrix(labels, predicted, labels=classes).astype(np.int64),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support.astype(np.int64),
    )


def to_json(evaluations: Iterable[Evaluation]) -> str:
    """The text of evaluation.json: {"splits": {name: figures}}, in the order given."""
    splits = {evaluation.split: evaluation.to_dict() for evaluation in evaluations}
    return json.dumps({"splits": splits}, indent=1, allow_nan=False) + "\n"


def write_evaluations(path: str | os.PathLike, evaluations: Iterable[Evaluation]) -> None:
    """Write evaluation.json for all the evaluated splits at once; it is complete or not there."""
    write_text(path, to_json(evaluations))


def print_evaluations(evaluations: Sequence[Evaluation], file: TextIO | None = None) -> None:
    """Print a table of the splits, then one of the classes for each split but train; plain ASCII rules off a terminal.

    The classes of train are in evaluation.json: they tell what was learned by heart, which nobody asks first.
    """
    from rich.console import Console

    file = file or sys.stdout
    # Off a terminal rich would cut the rows at 80 columns; 200 hold any table of ours.
    console = Console(file=file, width=None if file.isatty() else 200)
    tables = [_splits_table(evaluations), *(_classes_table(found) for found in evaluations if found.split != "train")]
    for table in tables:
        with console.capture() as capture:
            console.print(_plain(table) if not console.is_terminal else table)
        # A class name may have letters that the stream's encoding lacks (a C locale): better a "?" than no table.
        encoding = file.encoding or "utf-8"
        lines = (line.rstrip() for line in capture.get().splitlines())
        file.write("\n".join([*lines, ""]).encode(encoding, "replace").decode(encoding))


def _check(split: str, labels: np.ndarray, probabilities: np.ndarray, num_classes: int) -> None:
    if probabilities.shape != (len(labels), num_classes):
        raise ValueError(f"probabilities {probabilities.shape}, expected {(len(labels), num_classes)}")
    if not len(labels):
        raise InputError(f"split {split}: no rows to evaluate")
    unlabelled = np.flatnonzero(labels == UNLABELLED)
    if len(unlabelled):
        raise InputError(f"split {split}: row {unlabelled[0]} has no label, so the split cannot be evaluated")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels {labels.min()}..{labels.max()}, expected 0..{num_classes - 1}")
    broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(broken):
        raise InputError(
            f"split {split}: the model's output for row {broken[0]} is not a number, so training diverged; "
            "train again with a lower learning rate"
        )


def _splits_table(evaluations: Sequence[Evaluation]) -> "Table":
    table = _table("Evaluation", "split", "rows", "loss", "accuracy")
    for evaluation in evaluations:
        rows = rows_text(evaluation).split(" rows")[0]
        table.add_row(_text(evaluation.split), rows, f"{evaluation.loss:.4f}", f"{evaluation.accuracy:.2%}")
    return table


def rows_text(evaluation: Evaluation) -> str:
    """How many rows were evaluated, and of how many if they are a sample."""
    if evaluation.num_examples == evaluation.split_examples:
        return f"{evaluation.num_examples:,} rows"
    return f"{evaluation.num_examples:,} of {evaluation.split_examples:,} rows, evenly spread"


def _classes_table(evaluation: Evaluation) -> "Table":
    title = f"{evaluation.split}: {rows_text(evaluation)}"
    table = _table(title, "class", "rows", "precision", "recall", "f1")
    columns = (evaluation.precision, evaluation.recall, evaluation.f1)
    for name, support, *figures in zip(evaluation.class_names, evaluation.support, *columns, strict=True):
        table.add_row(_text(name), f"{support:,}", *map(_figure, figures))
    return table


def _table(title: str, first: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=_text(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _plain(table: "Table") -> "Table":
    from rich import box

    table.box = box.ASCII
    return table


def _text(name: str):
    from rich.text import Text

    # A Text is printed as it stands: in a string, rich would read "[red]" or ":apple:" as markup.
    return Text(name)


def _figure(value: float) -> str:
    return _NOT_AVAILABLE if math.isnan(value) else f"{value:.4f}"


def _none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
