"""Predictions as files: the submission that Kaggle expects (id and label per row), and more if requested."""

import csv
import dataclasses
import math
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.convert.csv_reader import CsvFile, ReadOptions
from pipeline.errors import InputError
from pipeline.evaluate import image_grids
from pipeline.evaluate.predict import Predictions, Predictor, Rows, average_predictors, make_predictor
from pipeline.evaluate.saved_run import SavedRun, shape_text
from pipeline.feed.resident import load_split
from pipeline.files import check_writable_file, full_disk_explained, replacing_all
from pipeline.format.manifest import load_manifest
from pipeline.format.records import UNLABELLED
from pipeline.format.text_ids import original_ids

_MAX_CLASSES = 20  # in the summary, which is one line


class Source(NamedTuple):
    """Rows to predict, in the order of the CSV: blocks of any size, to be read once; their number if it is known."""

    name: str
    blocks: Iterable[Rows]
    num_rows: int | None = None


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The files to write: id and label, and if requested the probabilities and a grid of images."""

    submission: pathlib.Path
    probabilities: pathlib.Path | None = None
    grid: pathlib.Path | None = None
    overwrite: bool = False

    @property
    def paths(self) -> list[pathlib.Path]:
        """Those that are requested."""
        return [path for path in (self.submission, self.probabilities, self.grid) if path is not None]

    def check(self, source: pathlib.Path | None = None) -> None:
        """InputError if a file cannot be written, exists, or is also another output or the `source`."""
        taken = [source.resolve()] if source else []
        for path in self.paths:
            if path.resolve() in taken:
                raise InputError(f"{path}: given for two files; name different ones")
            taken.append(path.resolve())
            if not path.parent.is_dir():
                raise InputError(f"{path}: no directory {path.parent}; create it first")
            check_writable_file(path)
            if path.exists() and not self.overwrite:
                raise InputError(f"{path}: exists; name another file or use --overwrite")


def open_split(run: SavedRun, data_dir: pathlib.Path, split_name: str) -> Source:
    """The rows of a converted split.

    Raises:
        InputError: the split or a shard is missing or corrupt, or its images or classes are not those of the run.
    """
    manifest = load_manifest(data_dir)
    run.check_fits(str(data_dir), manifest.image_shape, manifest.class_names)
    split = load_split(data_dir, manifest, split_name)
    ids = original_ids(data_dir, manifest, split_name, split.ids)
    return Source(split_name, [(split.images, split.labels, ids)], len(split))


def open_csv(run: SavedRun, path: pathlib.Path, **options: Any) -> Source:
    """The rows of a CSV, read when they are needed; without an id column ids count from 0.

    The `options` are `has_header`, `label_column` and `id_column`, as for a conversion.

    Raises:
        InputError: the file is missing or invalid, or its images are not of the run's size. While the rows are read: a
            line is invalid, or a label is not one of the run's classes.
    """
    file = CsvFile(path, ReadOptions(**options))
    num_pixels, needed = file.columns.num_pixels, math.prod(run.image_shape)
    if num_pixels != needed:
        raise InputError(
            f"{path}: {num_pixels} pixel columns, but {run.directory} was trained on {run.data_name} with images of "
            f"{shape_text(run.image_shape)}, which need {needed}; use data of that shape"
        )
    return Source(path.name, _csv_rows(file, run))


def predict_rows(
    runs: Sequence[SavedRun], source: Source, outputs: Outputs, batch_size: int, shifts: bool = False
) -> str:
    """Predict all rows and write the outputs: either all are complete or none is left behind. Returns a summary.

    Probabilities are the mean over the runs, which are of `read_runs`, and with `shifts` over views of each image that
    are shifted by a pixel. Images are kept in memory only for the grid, whose rows are chosen from all at the end.

    Raises:
        InputError: a run's model is invalid or its output not a number, a batch does not fit into memory, or the
            outputs do not fit on the disk.
    """
    predict = average_predictors([_make_run_predictor(run, batch_size, shifts) for run in runs])
    names, seen, parts = runs[0].class_names, [], []  # `parts` has no probabilities, so it stays small
    start = time.perf_counter()
    with replacing_all(outputs.paths) as temporaries:
        _append(outputs.submission, temporaries, [("id", "label")])
        _append(outputs.probabilities, temporaries, [("id", *names)])
        batches = predict(source.blocks, source.name)
        for (images, labels, ids), probabilities in _with_progress(batches, source.num_rows, batch_size):
            parts.append(Predictions.of(probabilities, labels))
            labelled = zip(ids.tolist(), (names[label] for label in parts[-1].predicted), strict=True)
            _append(outputs.submission, temporaries, labelled)
            _append(outputs.probabilities, temporaries, _format(ids, probabilities))
            if outputs.grid:
                seen.append(images)
        seconds = time.perf_counter() - start
        predictions = Predictions.join(parts)
        if outputs.grid:
            images = np.concatenate(seen).reshape(-1, *runs[0].image_shape)
            image_grids.predictions(images, predictions, names, temporaries[outputs.grid], source.name)
        outputs.check()  # again: a file may have appeared while this ran
    return _summary(predictions, names, outputs.submission, seconds)


def _make_run_predictor(run: SavedRun, batch_size: int, shifts: bool) -> Predictor:
    predict = make_predictor(run.load_model(), run.normalization, run.image_shape, batch_size, shifts)
    # The run, not the source, is to blame for probabilities that are not numbers.
    return lambda blocks, _: predict(blocks, str(run.directory))


def _append(
    path: pathlib.Path | None, temporaries: Mapping[pathlib.Path, pathlib.Path], rows: Iterable[Iterable[Any]]
) -> None:
    """Append rows to a CSV that is requested. It is opened every time, so that a full disk shows here, by its name."""
    if path is not None:
        temporary = temporaries[path]
        with full_disk_explained(path, temporary), temporary.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _format(ids: np.ndarray, probabilities: np.ndarray) -> Iterator[Iterable[Any]]:
    for row_id, row in zip(ids.tolist(), probabilities.tolist(), strict=True):
        yield row_id, *map("{:.7g}".format, row)  # seven digits restore a float32 within its rounding


def _summary(predictions: Predictions, class_names: Sequence[str], out: pathlib.Path, seconds: float) -> str:
    labels, predicted = predictions.labels, predictions.predicted
    parts = [f"{out}: {len(labels):,} rows in {seconds:.1f} s ({len(labels) / seconds:,.0f} images/s)"]
    if num_labelled := int((labels != UNLABELLED).sum()):
        accuracy = (labels == predicted).sum() / num_labelled
        parts.append(f"accuracy {accuracy:.2%} of {num_labelled:,} labelled rows")
    class_counts = np.bincount(predicted, minlength=len(class_names))
    most_frequent = sorted(np.argsort(-class_counts, kind="stable")[:_MAX_CLASSES])
    counts = " ".join(f"{class_names[label]}:{class_counts[label]}" for label in most_frequent)
    if len(class_names) > _MAX_CLASSES:
        counts += f" and {len(class_names) - _MAX_CLASSES} rarer classes"
    return "; ".join([*parts, f"predicted {counts}"])


def _with_progress(batches: Iterable[Any], num_rows: int | None, batch_size: int) -> Iterable[Any]:
    """The same batches, with a progress bar if stderr is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return batches
    from rich.console import Console
    from rich.progress import track

    total = None if num_rows is None else -(-num_rows // batch_size)
    return track(batches, "predicting", total, console=Console(stderr=True), transient=True)


def _csv_rows(file: CsvFile, run: SavedRun) -> Iterator[Rows]:
    classes = {name: index for index, name in enumerate(run.class_names)}
    first = 0
    # One block at a time, so that a CSV of any size is predicted in little memory.
    for rows in file.read_blocks():
        end = first + len(rows.images)
        ids = np.arange(first, end) if rows.ids is None else rows.ids
        labels = np.full(end - first, UNLABELLED)
        if rows.labels is not None:
            labels = np.array([classes.get(str(label), UNLABELLED) for label in rows.labels.tolist()], np.int64)
            if (labels == UNLABELLED).any():
                row = int((labels == UNLABELLED).argmax())
                raise InputError(
                    f"{file.path}, row {first + row} (counted from 0): label {rows.labels[row]} is not one of the "
                    f"classes of {run.directory}; use data of the same classes"
                )
        yield rows.images, labels, ids
        first = end
