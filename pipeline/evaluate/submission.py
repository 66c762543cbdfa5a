"""Predictions of a run as Kaggle wants them: one line of id and label for each row, in the order of the CSV."""

import contextlib
import csv
import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.predict import make_predictor
from pipeline.evaluate.row_sources import Rows
from pipeline.evaluate.saved_run import SavedRun
from pipeline.files import replacing

_MAX_CLASSES = 20  # shown in the summary one by one


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The files to write: id and label, and if wanted the probabilities and a grid of pictures."""

    submission: pathlib.Path
    probabilities: pathlib.Path | None = None
    grid: pathlib.Path | None = None

    def check(self, overwrite: bool, source: pathlib.Path | None = None) -> None:
        """InputError where a file cannot be written or would take the place of another one."""
        paths = [path for path in (self.submission, self.probabilities, self.grid) if path is not None]
        taken = [source.resolve()] if source else []
        for path in paths:
            if path.resolve() in taken:
                raise InputError(f"{path}: given for two files; name different ones")
            taken.append(path.resolve())
            if not path.parent.is_dir():
                raise InputError(f"{path}: no directory {path.parent}; make it first")
            if path.is_dir():
                raise InputError(f"{path}: is a directory; name a file")
            if path.exists() and not overwrite:
                raise InputError(f"{path}: exists; name another file or give --overwrite")


@dataclasses.dataclass
class Summary:
    """What was predicted: rows of each class, int64 [C], and how many labelled rows there were and were right."""

    class_counts: np.ndarray
    num_labelled: int = 0
    num_right: int = 0
    seconds: float = 0.0

    @property
    def num_rows(self) -> int:
        return int(self.class_counts.sum())

    def text(self, class_names: Sequence[str], out: pathlib.Path) -> str:
        """One line for people."""
        rate = self.num_rows / self.seconds if self.seconds else 0
        parts = [f"{out}: {self.num_rows:,} rows in {self.seconds:.1f} s ({rate:,.0f} images/s)"]
        if self.num_labelled:
            parts.append(f"accuracy {self.num_right / self.num_labelled:.2%} of {self.num_labelled:,} labelled rows")
        shown = np.argsort(-self.class_counts, kind="stable")[:_MAX_CLASSES]
        shares = " ".join(f"{class_names[label]}:{self.class_counts[label]}" for label in sorted(shown))
        if len(class_names) > _MAX_CLASSES:
            shares += f" and {len(class_names) - _MAX_CLASSES} rarer classes"
        return "; ".join([*parts, f"predicted {shares}"])


def predict_rows(run: SavedRun, rows: Rows, outputs: Outputs, batch_size: int) -> Summary:
    """Predict all rows and write the outputs; all of them are complete or none is there.

    Memory does not grow with the rows, but for a grid, which is chosen from all of them at the end.

    Raises:
        InputError: the run's model cannot be read or gives no numbers, or a batch does not fit into memory.
    """
    predict = make_predictor(run.load_model(), run.normalization, run.image_shape, batch_size)
    summary = Summary(np.zeros(len(run.class_names), np.int64))
    seen: list[tuple[np.ndarray, ...]] = []
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        write = _open_writers(stack, outputs, run.class_names)
        advance = stack.enter_context(_progress(rows))
        for images, labels, ids in rows.batches:
            probabilities = _checked(run, predict, images, ids)
            write(ids, probabilities)
            _count(summary, labels, probabilities)
            if outputs.grid:
                seen.append((images, labels, probabilities))
            advance(len(ids))
        summary.seconds = time.perf_counter() - start
        if outputs.grid:
            _draw_grid(run, rows, seen, outputs.grid)
    return summary


def _checked(run: SavedRun, predict: Callable, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    try:
        probabilities = predict(images)
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(f"out of memory at {len(images)} rows a batch; give a smaller --batch-size") from error
    broken = ~np.isfinite(probabilities).all(axis=1)
    if broken.any():
        raise InputError(
            f"{run.directory}: the model's output for id {ids[broken.argmax()]} is not a number, so its training "
            "diverged; train again with a lower learning rate"
        )
    return probabilities


def _count(summary: Summary, labels: np.ndarray, probabilities: np.ndarray) -> None:
    predicted = probabilities.argmax(axis=1)
    summary.class_counts += np.bincount(predicted, minlength=len(summary.class_counts))
    summary.num_labelled += int((labels >= 0).sum())
    summary.num_right += int((labels == predicted).sum())


def _open_writers(stack: contextlib.ExitStack, outputs: Outputs, class_names: Sequence[str]) -> Callable:
    submission = stack.enter_context(_csv_file(outputs.submission, ("id", "label")))
    table = None
    if outputs.probabilities:
        table = stack.enter_context(_csv_file(outputs.probabilities, ("id", *class_names)))

    def write(ids: np.ndarray, probabilities: np.ndarray) -> None:
        names = (class_names[label] for label in probabilities.argmax(axis=1))
        submission.writerows(zip(ids.tolist(), names, strict=True))
        if table:
            # Seven digits give a float32 back within its rounding.
            rows = zip(ids.tolist(), probabilities.tolist(), strict=True)
            table.writerows((row_id, *(f"{value:.7g}" for value in row)) for row_id, row in rows)

    return write


@contextlib.contextmanager
def _csv_file(path: str | os.PathLike, header: Sequence[str]) -> Iterator:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer


def _draw_grid(run: SavedRun, rows: Rows, seen: list[tuple[np.ndarray, ...]], path: pathlib.Path) -> None:
    from pipeline.evaluate.image_grids import predictions

    if not seen:
        raise InputError(f"{rows.name}: no rows, so nothing to draw; leave --grid away")
    images, labels, probabilities = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    images = images.reshape(-1, *run.image_shape)
    predictions(images, labels, probabilities, run.class_names, path, rows.name)


@contextlib.contextmanager
def _progress(rows: Rows) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=rows.num_rows)
        yield lambda count: progress.advance(task, count)
