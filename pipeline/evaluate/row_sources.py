"""Rows to predict, in batches and in the order of the CSV: from a converted split, or from a CSV itself."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.convert.csv_source import NUM_THREADS, CsvSource, ReadOptions, ids_or_numbers
from pipeline.errors import InputError
from pipeline.evaluate.saved_run import SavedRun
from pipeline.format.manifest import load_manifest
from pipeline.format.records import UNLABELLED

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Batches of images uint8 [n, H*W*C], labels int [n] (-1 where there is none), ids int64 [n]; to be read once."""

    name: str
    batches: Iterable[Batch]
    num_rows: int | None = None


def rows_of_split(run: SavedRun, data_dir: pathlib.Path, split_name: str, batch_size: int) -> Rows:
    """The rows of a converted split.

    Raises:
        InputError: the split or a shard is missing or damaged, or its images or classes are not those of the run.
    """
    from pipeline.feed.resident import load_split

    manifest = load_manifest(data_dir)
    run.check_fits(str(data_dir), manifest.image_shape, manifest.class_names)
    split = load_split(data_dir, manifest, split_name)
    parts = (slice(first, first + batch_size) for first in range(0, len(split), batch_size))
    batches = ((split.images[part], split.labels[part], split.ids[part]) for part in parts)
    return Rows(split_name, batches, len(split))


def rows_of_csv(run: SavedRun, path: pathlib.Path, options: ReadOptions, batch_size: int) -> Rows:
    """The rows of a CSV, read as they are asked for; without an id column ids count from 0.

    Raises:
        InputError: the file is missing or wrong, or its images are not of the run's size. While the rows are read: a
            line is wrong, or a label is none of the run's classes.
    """
    source = CsvSource(path, options)
    needed = int(np.prod(run.image_shape))
    if source.columns.num_pixels != needed:
        raise InputError(
            f"{source.first_line}: {source.columns.num_pixels} pixel columns, but {run.directory} was trained on "
            f"{run.data_name} with images of {run.shape_text}, which need {needed}; give data of that shape"
        )
    return Rows(path.name, _batches(_blocks(source, run), batch_size))


def _blocks(source: CsvSource, run: SavedRun) -> Iterator[Batch]:
    first = 0
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for rows in source.read_rows(pool):
            count = len(rows.images)
            ids = ids_or_numbers(rows, first)
            yield rows.images, _class_indices(rows.labels, count, first, source, run), ids
            first += count


def _class_indices(labels: np.ndarray | None, count: int, first: int, source: CsvSource, run: SavedRun) -> np.ndarray:
    """Indices of the run's classes for the labels that the CSV has."""
    if labels is None:
        return np.full(count, UNLABELLED)
    values, places = np.unique(labels, return_inverse=True)
    known = {name: index for index, name in enumerate(run.class_names)}
    indices = np.array([known.get(str(value), UNLABELLED) for value in values])[places]
    if (indices == UNLABELLED).any():
        row = int((indices == UNLABELLED).argmax())
        raise InputError(
            f"{source.path}, row {first + row} (counted from 0): label {labels[row]} is none of the classes of "
            f"{run.directory}; give data of the same classes"
        )
    return indices


def _batches(blocks: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """The same rows, `batch_size` at a time; the last batch is what is left."""
    kept: list[Batch] = []
    for block in blocks:
        kept.append(block)
        if sum(len(part[0]) for part in kept) < batch_size:
            continue
        whole = tuple(map(np.concatenate, zip(*kept, strict=True)))
        end = len(whole[0]) // batch_size * batch_size
        for first in range(0, end, batch_size):
            yield tuple(array[first : first + batch_size] for array in whole)
        kept = [tuple(array[end:] for array in whole)]
    if kept and any(len(part[0]) for part in kept):
        yield tuple(map(np.concatenate, zip(*kept, strict=True)))
