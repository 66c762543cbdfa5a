"""Predictions as files: the submission that Kaggle expects (id and label per row), and more if requested."""

import contextlib
import csv
import dataclasses
import errno
import io
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.predict import Predictions, check_finite, make_predictor
from pipeline.evaluate.row_sources import Rows
from pipeline.evaluate.saved_run import SavedRun
from pipeline.files import check_writable_file, replacing

_MAX_CLASSES = 20  # in the summary


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


@dataclasses.dataclass
class Summary:
    """What was predicted: rows per class, int64 [C], how many rows had a label, and how many of these were correct."""

    class_counts: np.ndarray
    num_labelled: int = 0
    num_correct: int = 0
    seconds: float = 0.0

    def add(self, batch: Predictions) -> None:
        """Count more rows."""
        self.class_counts += np.bincount(batch.predicted, minlength=len(self.class_counts))
        self.num_labelled += int((batch.labels >= 0).sum())
        self.num_correct += int((batch.labels == batch.predicted).sum())

    def text(self, class_names: Sequence[str], out: pathlib.Path) -> str:
        """One line for people."""
        num_rows = int(self.class_counts.sum())
        rate = num_rows / self.seconds if self.seconds else 0
        parts = [f"{out}: {num_rows:,} rows in {self.seconds:.1f} s ({rate:,.0f} images/s)"]
        if self.num_labelled:
            accuracy = self.num_correct / self.num_labelled
            parts.append(f"accuracy {accuracy:.2%} of {self.num_labelled:,} labelled rows")
        most_frequent = np.argsort(-self.class_counts, kind="stable")[:_MAX_CLASSES]
        counts = " ".join(f"{class_names[label]}:{self.class_counts[label]}" for label in sorted(most_frequent))
        if len(class_names) > _MAX_CLASSES:
            counts += f" and {len(class_names) - _MAX_CLASSES} rarer classes"
        return "; ".join([*parts, f"predicted {counts}"])


def predict_rows(run: SavedRun, rows: Rows, outputs: Outputs, batch_size: int) -> Summary:
    """Predict all rows and write the outputs: either all are complete or none is left behind.

    The images are kept in memory only for the grid, whose rows are chosen from all of them at the end.

    Raises:
        InputError: the run's model is invalid or its output not a number, a batch does not fit into memory, or the
            outputs do not fit on the disk.
    """
    predict = make_predictor(run.load_model(), run.normalization, run.image_shape, batch_size)
    summary = Summary(np.zeros(len(run.class_names), np.int64))
    seen: list[tuple[np.ndarray, Predictions]] = []
    start = time.perf_counter()
    with _publish_together(outputs.paths) as temporaries:
        with contextlib.ExitStack() as stack:
            # Closed before anything is published: a full disk may show only then.
            tables = [
                stack.enter_context(contextlib.closing(_Table(path, temporaries[path], columns)))
                for path, columns in ((outputs.submission, ["label"]), (outputs.probabilities, run.class_names))
                if path is not None
            ]
            advance = stack.enter_context(_progress(rows.num_rows))
            for images, labels, ids in rows.batches:
                probabilities = predict(images)
                check_finite(probabilities, ids, str(run.directory))
                predictions = Predictions.of(probabilities, labels)
                tables[0].write(ids, ((run.class_names[label],) for label in predictions.predicted))
                for table in tables[1:]:
                    # Seven digits restore a float32 within its rounding.
                    table.write(ids, (map("{:.7g}".format, row) for row in probabilities.tolist()))
                summary.add(predictions)
                if outputs.grid:
                    seen.append((images, predictions))
                advance(len(ids))
        summary.seconds = time.perf_counter() - start
        if outputs.grid:
            png = _draw_grid(run, seen, rows.name)
            with _naming(outputs.grid):
                temporaries[outputs.grid].write_bytes(png)
        outputs.check()  # again: a file may have appeared while this ran
    return summary


@contextlib.contextmanager
def _publish_together(paths: Sequence[pathlib.Path]) -> Iterator[dict[pathlib.Path, pathlib.Path]]:
    """A temporary for each path; at the end all of them are published, or none that was not there before."""
    new: list[pathlib.Path] = []
    try:
        with contextlib.ExitStack() as stack:
            yield {path: stack.enter_context(_publish(path, new)) for path in paths}
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _publish(path: pathlib.Path, new: list[pathlib.Path]) -> Iterator[pathlib.Path]:
    with replacing(path) as temporary:
        yield temporary
        existed = path.exists()
    if not existed:
        new.append(path)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Errors of writing a temporary name the file that it is for; only the writing may be inside."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{path}: does not fit on the disk; free space, then run the command again") from error
        error.filename = str(path)
        raise


class _Table:
    """A CSV file with ids that is being written to a temporary; errors name the file that it is for."""

    def __init__(self, path: pathlib.Path, temporary: pathlib.Path, columns: Iterable[str]) -> None:
        self._path = path
        with _naming(path):
            self._file = temporary.open("w", encoding="utf-8", newline="")
            self._writer = csv.writer(self._file, lineterminator="\n")
            self._writer.writerow(("id", *columns))

    def write(self, ids: np.ndarray, rows: Iterable[Iterable[str]]) -> None:
        with _naming(self._path):
            self._writer.writerows((row_id, *row) for row_id, row in zip(ids.tolist(), rows, strict=True))

    def close(self) -> None:
        with _naming(self._path):
            self._file.close()


def _draw_grid(run: SavedRun, seen: list[tuple[np.ndarray, Predictions]], name: str) -> bytes:
    from pipeline.evaluate import image_grids

    images, predictions = zip(*seen, strict=True)
    images = np.concatenate(images).reshape(-1, *run.image_shape)
    png = io.BytesIO()
    image_grids.predictions(images, Predictions.join(predictions), run.class_names, png, name)
    return png.getvalue()


@contextlib.contextmanager
def _progress(num_rows: int | None) -> Iterator[Callable[[int], None]]:
    """A function that advances a progress bar by so many rows; it does nothing if stderr is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=num_rows)
        yield lambda count: progress.advance(task, count)
