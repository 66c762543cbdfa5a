"""The results of a series of runs: each run's accuracy, mean and spread, out-of-fold or averaged predictions."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.evaluate.metrics import FILE_NAME as EVALUATION_NAME
from pipeline.evaluate.metrics import Evaluation
from pipeline.evaluate.predict import Predictions, Predictor, make_predictor
from pipeline.evaluate.report import Part, evaluated_parts
from pipeline.evaluate.saved_run import SERIES_NAME, read_run
from pipeline.feed.holdout import Holdout
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.files import replacing, write_text
from pipeline.format.manifest import Manifest
from pipeline.format.text_ids import original_ids
from pipeline.splits import HOLDOUT, TRAIN

FILE_NAME, OOF_NAME = SERIES_NAME, "oof.csv"


@dataclasses.dataclass(frozen=True)
class SplitFigures:
    """Accuracies of the runs on their rows of one name, with the mean and the sample's standard deviation of them.

    `worst_groups` are the accuracies of each run's worst group, None if groups are unknown.
    """

    accuracies: tuple[float, ...]
    mean: float
    std: float
    worst_groups: tuple[float, ...] | None

    @classmethod
    def of(cls, evaluations: Sequence[dict]) -> "SplitFigures":
        """From each run's entry in its evaluation.json."""
        accuracies = tuple(evaluation["accuracy"] for evaluation in evaluations)
        worst = tuple(evaluation["groups"]["worst"] for evaluation in evaluations if "groups" in evaluation)
        return cls(accuracies, float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)), worst or None)


@dataclasses.dataclass(frozen=True)
class Series:
    """Figures by split, except `train`; `joint` are those of the runs' predictions together, as `label` says."""

    names: tuple[str, ...]
    splits: dict[str, SplitFigures]
    label: str
    joint: dict[str, Evaluation]

    def table(self) -> list[str]:
        """Lines for people: a row per run; their mean, standard deviation and mean worst group; the joint accuracy."""
        rows = [("run", *self.splits)]
        for index, name in enumerate(self.names):
            rows.append((name, *(f"{split.accuracies[index]:.2%}" for split in self.splits.values())))
        rows.append(("mean", *(f"{split.mean:.2%}" for split in self.splits.values())))
        rows.append(("std", *(f"{split.std:.2%}" for split in self.splits.values())))
        if any(split.worst_groups for split in self.splits.values()):
            worst = (np.mean(split.worst_groups) if split.worst_groups else None for split in self.splits.values())
            rows.append(("worst group", *("" if value is None else f"{value:.2%}" for value in worst)))
        joint = {name: f"{evaluation.accuracy:.2%}" for name, evaluation in self.joint.items()}
        rows.append((self.label, *(joint.get(name, "") for name in self.splits)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        for name, evaluation in self.joint.items():
            if evaluation.groups is not None:
                lines.append(f"{self.label}, {name}: {evaluation.groups.describe()}")
        return lines

    def figures(self) -> dict:
        """The runs and their accuracies by split, as plain values for JSON."""
        splits = {name: dataclasses.asdict(figures) for name, figures in self.splits.items()}
        return {"runs": self.names, "splits": splits}

    def to_dict(self) -> dict:
        """All of it, as plain values for JSON."""
        return {
            **self.figures(),
            self.label.replace(" ", "_"): {name: joint.to_dict() for name, joint in self.joint.items()},
        }


def write_folds(
    run_dir: pathlib.Path,
    runs: Sequence[pathlib.Path],
    holdouts: Sequence[Holdout],
    manifest: Manifest,
    data_dir: pathlib.Path,
    batch_size: int,
) -> Series:
    """Write RUN_DIR/oof.csv and series.json of the runs of all folds, and return what the latter holds.

    oof.csv has each row of the split `train`, in its order: id, label, predicted class, fold, and a probability per
    class by the run that did not train on the row.

    Args:
        runs: directories of finished runs, one per fold.
        holdouts: what each run held out; together every row once.

    Raises:
        InputError: a shard or a model cannot be read, or the disk is full.
    """
    arrays, names = load_split(data_dir, manifest, TRAIN), manifest.class_names
    probabilities = np.empty((len(arrays), len(names)), np.float32)
    fold = np.full(len(arrays), -1)
    for index, (run, holdout) in enumerate(zip(runs, holdouts, strict=True)):
        rows = holdout.rows(arrays.labels)
        probabilities[rows] = _probabilities(_predictor(run, batch_size), arrays.select(rows), run)
        fold[rows] = index
    ids = original_ids(data_dir, manifest, TRAIN, arrays.ids)
    _write_oof(run_dir / OOF_NAME, ids, arrays.labels, probabilities, fold, names)
    groups = holdouts[0].groups(np.arange(len(arrays)))
    part = Part(HOLDOUT, arrays, True, len(arrays), groups, ids)
    joint = part.evaluate(Predictions.of(probabilities, arrays.labels), names)
    return _write(run_dir, runs, "out of fold", {joint.split: joint})


def write_seeds(
    run_dir: pathlib.Path,
    runs: Sequence[pathlib.Path],
    holdout: Holdout,
    manifest: Manifest,
    data_dir: pathlib.Path,
    batch_size: int,
) -> Series:
    """Write RUN_DIR/series.json of runs that differ in their seeds, and return what it holds.

    The ensemble is the mean of the runs' probabilities, evaluated on the rows that `holdout` holds out and on every
    other labelled split that they did not train on; raises as `write_folds`.
    """
    predictors = [(_predictor(run, batch_size), run) for run in runs]
    joint = {}
    for part in evaluated_parts(data_dir, manifest, holdout):
        if part.labelled and part.name != TRAIN:
            total = sum(_probabilities(predict, part.arrays, run) for predict, run in predictors)
            mean = np.asarray(total) / np.float32(len(runs))
            joint[part.name] = part.evaluate(Predictions.of(mean, part.arrays.labels), manifest.class_names)
    return _write(run_dir, runs, "ensemble", joint)


def _predictor(run: pathlib.Path, batch_size: int) -> Predictor:
    saved = read_run(run)
    return make_predictor(saved.load_model(), saved.image_shape, batch_size)


def _probabilities(predict: Predictor, arrays: SplitArrays, run: pathlib.Path) -> np.ndarray:
    batches = predict([(arrays.images, arrays.labels, arrays.ids)], str(run))
    return np.concatenate([probabilities for _, probabilities in batches])


def _write_oof(
    path: pathlib.Path,
    ids: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    fold: np.ndarray,
    names: Sequence[str],
) -> None:
    def lines() -> Iterator[tuple]:
        yield "id", "label", "predicted", "fold", *names
        columns = ids, labels, probabilities.argmax(axis=1), fold
        for values, row in zip(zip(*(c.tolist() for c in columns), strict=True), probabilities, strict=True):
            row_id, label, predicted, index = values
            # Seven digits restore a float32 within its rounding.
            yield row_id, names[label], names[predicted], index, *map("{:.7g}".format, row.tolist())

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines())


def _write(run_dir: pathlib.Path, runs: Sequence[pathlib.Path], label: str, joint: dict[str, Evaluation]) -> Series:
    evaluations = [json.loads((run / EVALUATION_NAME).read_bytes())["splits"] for run in runs]
    splits = {
        name: SplitFigures.of([splits[name] for splits in evaluations]) for name in evaluations[0] if name != TRAIN
    }
    series = Series(tuple(run.name for run in runs), splits, label, joint)
    write_text(run_dir / FILE_NAME, json.dumps(series.to_dict(), indent=1, allow_nan=False) + "\n")
    return series
