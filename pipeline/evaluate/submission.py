"""Predictions as files: the submission that Kaggle expects (id and label per row), and more if requested."""

import csv
import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.convert.ids import duplicate_id
from pipeline.errors import InputError
from pipeline.evaluate import image_grids
from pipeline.evaluate.predict import Predictions, Predictor, average_predictors, make_predictor
from pipeline.evaluate.sample_submission import Form
from pipeline.evaluate.saved_run import SavedRun
from pipeline.evaluate.sources import Source
from pipeline.files import check_output_file, full_disk_explained, replacing_all
from pipeline.format.records import UNLABELLED

_MAX_CLASSES = 20  # in the summary, which is one line
_MAX_LISTED = 40  # rows of the table of image files


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The files to write: id and label, the probabilities, and a grid of images; None for those not requested."""

    submission: pathlib.Path | None
    probabilities: pathlib.Path | None = None
    grid: pathlib.Path | None = None
    overwrite: bool = False

    @property
    def paths(self) -> list[pathlib.Path]:
        """Those that are requested."""
        return [path for path in (self.submission, self.probabilities, self.grid) if path is not None]

    def check(self, sources: Sequence[pathlib.Path] = ()) -> None:
        """InputError if a file cannot be written, exists, or is also another output or one of the `sources`."""
        taken = [source.resolve() for source in sources]
        for path in self.paths:
            if path.resolve() in taken:
                raise InputError(f"{path}: given for two files; name different ones")
            taken.append(path.resolve())
            check_output_file(path)
            if path.exists() and not self.overwrite:
                raise InputError(f"{path}: exists; name another file or use --overwrite")


def predict_rows(
    runs: Sequence[SavedRun],
    source: Source,
    outputs: Outputs,
    batch_size: int,
    shifts: bool = False,
    form: Form | None = None,
) -> str:
    """Predict all rows and write the outputs: either all are complete or none is left behind. Returns a summary.

    Probabilities are the mean over the runs, which are of `read_runs`, and with `shifts` over views of each image that
    are shifted by a pixel. Images are kept in memory only for the grid, whose rows are chosen from all at the end.

    Raises:
        InputError: a run's model is invalid or its output not a number, a batch does not fit into memory, an id occurs
            twice or is not of the form's sample, or the outputs do not fit on the disk.
    """
    form = form or Form()
    predict = average_predictors([_make_run_predictor(run, batch_size, shifts) for run in runs])
    names, seen, parts, all_ids = runs[0].class_names, [], [], []  # without probabilities, so they stay small
    offset = check_form(source, form)
    start = time.perf_counter()
    with replacing_all(outputs.paths) as temporaries:
        _append(outputs.submission, temporaries, [form.header])
        _append(outputs.probabilities, temporaries, [(form.header[0], *names)])
        batches = predict(source.blocks, source.name)
        for (images, labels, ids), probabilities in _with_progress(batches, source.num_rows, batch_size):
            parts.append(Predictions.of(probabilities, labels))
            all_ids.append(ids + offset if source.numbered else ids)
            if form.sample is None:
                labelled = zip(all_ids[-1].tolist(), (names[label] for label in parts[-1].predicted), strict=True)
                _append(outputs.submission, temporaries, labelled)
            _append(outputs.probabilities, temporaries, _format(all_ids[-1], probabilities))
            if outputs.grid:
                seen.append(images)
        seconds = time.perf_counter() - start
        predictions, ids = Predictions.join(parts), np.concatenate(all_ids)
        _check_distinct(source, ids)
        if form.sample is not None:
            labels_of_lines = (names[label] for label in predictions.predicted[form.sample.rows(ids)])
            _append(outputs.submission, temporaries, form.sample.lines_of(labels_of_lines))
        if outputs.grid:
            images = np.concatenate(seen).reshape(-1, *runs[0].image_shape)
            image_grids.predictions(images, predictions, names, temporaries[outputs.grid], source.name)
        outputs.check()  # again: a file may have appeared while this ran
    table = _table(ids, predictions, names) if source.listed else []
    return "\n".join([*table, _summary(predictions, names, outputs.submission, seconds)])


def check_form(source: Source, form: Form) -> int:
    """What to add to the numbers of rows without ids, once all is checked that is known before predicting.

    Raises:
        InputError: the rows are not those of the sample, an id occurs twice, or the first id is given but rows have
            ids.
    """
    offset = form.offset(source)
    if source.ids is not None:
        _check_distinct(source, source.ids)
        if form.sample is not None:
            form.sample.rows(source.ids + offset if source.numbered else source.ids)
    return offset


def _check_distinct(source: Source, ids: np.ndarray) -> None:
    if source.numbered or source.place_of is None:
        return
    first: dict[Any, int] = {}
    for row, row_id in enumerate(ids.tolist()):
        if first.setdefault(row_id, row) != row:
            raise duplicate_id(row_id, source.place_of(row), source.place_of(first[row_id]))


def _table(ids: np.ndarray, predictions: Predictions, names: Sequence[str]) -> list[str]:
    """A line per row: id, class and probability."""
    shown = list(zip(ids.tolist(), predictions.predicted, predictions.confidence, strict=True))[:_MAX_LISTED]
    width = max(len(str(row_id)) for row_id, _, _ in shown)
    lines = [f"{str(row_id).ljust(width)}  {names[label]}  {confidence:.1%}" for row_id, label, confidence in shown]
    return lines if len(ids) <= _MAX_LISTED else [*lines, f"... and {len(ids) - _MAX_LISTED:,} more"]


def _make_run_predictor(run: SavedRun, batch_size: int, shifts: bool) -> Predictor:
    predict = make_predictor(run.load_model(), run.image_shape, batch_size, shifts)
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


def _summary(predictions: Predictions, class_names: Sequence[str], out: pathlib.Path | None, seconds: float) -> str:
    labels, predicted = predictions.labels, predictions.predicted
    where = "" if out is None else f"{out}: "
    parts = [f"{where}{len(labels):,} rows in {seconds:.1f} s ({len(labels) / seconds:,.0f} images/s)"]
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
