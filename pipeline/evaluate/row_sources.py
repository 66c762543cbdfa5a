"""Rows to predict, in batches and in the order of the CSV: from a converted split, or from a CSV itself."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.saved_run import SavedRun, shape_text
from pipeline.format.manifest import load_manifest
from pipeline.format.records import UNLABELLED

# images uint8 [n, H*W*C], labels int [n] (-1 where there is none), ids int64 [n]
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Batches of rows, to be read once; `num_rows` if it is known in advance."""

    name: str
    batches: Iterable[Batch]
    num_rows: int | None = None


def rows_of_split(run: SavedRun, data_dir: pathlib.Path, split_name: str, batch_size: int) -> Rows:
    """The rows of a converted split.

    Raises:
        InputError: the split or a shard is missing or corrupt, or its images or classes are not those of the run.
    """
    from pipeline.feed.resident import load_split

    manifest = load_manifest(data_dir)
    run.check_fits(str(data_dir), manifest.image_shape, manifest.class_names)
    split = load_split(data_dir, manifest, split_name)
    batches = _cut((split.images, split.labels, split.ids), batch_size)
    return Rows(split_name, batches, len(split))


def rows_of_csv(run: SavedRun, path: pathlib.Path, batch_size: int, **options: Any) -> Rows:
    """The rows of a CSV, read when they are needed; without an id column ids count from 0.

    The `options` are `has_header`, `label_column` and `id_column`, as for a conversion.

    Raises:
        InputError: the file is missing or invalid, or its images are not of the run's size. While the rows are read: a
            line is invalid, or a label is not one of the run's classes.
    """
    num_pixels, blocks = _open_csv(path, options)
    needed = math.prod(run.image_shape)
    if num_pixels != needed:
        raise InputError(
            f"{path}: {num_pixels} pixel columns, but {run.directory} was trained on {run.data_name} with images of "
            f"{shape_text(run.image_shape)}, which need {needed}; use data of that shape"
        )
    return Rows(path.name, _join_and_cut(_add_ids(blocks, path, run), batch_size))


def _open_csv(path: pathlib.Path, options: dict[str, Any]) -> tuple[int, Iterator[Any]]:
    """Pixel columns, and blocks of rows with `images`, `labels` and `ids` (these two None without a column)."""
    from pipeline.convert.csv_reader import CsvFile, ReadOptions

    file = CsvFile(path, ReadOptions(**options))
    return file.columns.num_pixels, file.read_blocks()


def _add_ids(blocks: Iterator[Any], path: pathlib.Path, run: SavedRun) -> Iterator[Batch]:
    classes = {name: index for index, name in enumerate(run.class_names)}
    first = 0
    for rows in blocks:
        count = len(rows.images)
        ids = np.arange(first, first + count) if rows.ids is None else rows.ids
        labels = np.full(count, UNLABELLED) if rows.labels is None else _class_indices(rows.labels, classes)
        if rows.labels is not None and (labels == UNLABELLED).any():
            row = int((labels == UNLABELLED).argmax())
            raise InputError(
                f"{path}, row {first + row} (counted from 0): label {rows.labels[row]} is not one of the classes of "
                f"{run.directory}; use data of the same classes"
            )
        yield rows.images, labels, ids
        first += count


def _class_indices(labels: np.ndarray, classes: dict[str, int]) -> np.ndarray:
    values, places = np.unique(labels, return_inverse=True)
    return np.array([classes.get(str(value), UNLABELLED) for value in values])[places]


def _cut(rows: Batch, batch_size: int) -> Iterator[Batch]:
    images, labels, ids = rows
    for first in range(0, len(ids), batch_size):
        batch = slice(first, first + batch_size)
        yield images[batch], labels[batch], ids[batch]


def _join_and_cut(blocks: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """The same rows, `batch_size` at a time; the last batch is what remains."""
    kept: list[Batch] = []
    for block in blocks:
        kept.append(block)
        if sum(len(ids) for _, _, ids in kept) < batch_size:
            continue
        images, labels, ids = map(np.concatenate, zip(*kept, strict=True))
        end = len(ids) // batch_size * batch_size
        yield from _cut((images[:end], labels[:end], ids[:end]), batch_size)
        kept = [(images[end:], labels[end:], ids[end:])]
    if kept:
        images, labels, ids = map(np.concatenate, zip(*kept, strict=True))
        yield from _cut((images, labels, ids), batch_size)
