"""One pass over all rows of a data set: a hash of each image, its label and id, and the intensity of a sample."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import xxhash

from pipeline.data_audit.drift import SAMPLED, measure_intensity
from pipeline.data_audit.perceptual import NUM_BITS, differences
from pipeline.format.manifest import Manifest
from pipeline.format.shards import ShardReader
from pipeline.remote import REQUESTS, as_path, file_bytes, is_remote, list_at_once


@dataclasses.dataclass(frozen=True)
class RowTable:
    """The rows of all splits, one split after another; row numbers count over all of them.

    Args:
        names: the splits, in the order of the rows.
        starts: int64 [splits + 1], the first row of each split, and the number of rows.
        hashes: uint64 [n, 2], XXH3 of each image's bytes: of 10**9 images, two share one by chance in 10**21 tries.
        labels: int32 [n], -1 if there is none.
        ids: int64 [n], as the records have them.
        intensity: float32 [n, 2], the mean and the standard deviation of an image's bytes; NaN for rows not sampled.
        differences: int16 [n, 64] of `perceptual.differences`, or None.
    """

    directory: pathlib.Path
    manifest: Manifest
    names: tuple[str, ...]
    starts: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    intensity: np.ndarray
    differences: np.ndarray | None

    def split_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [m]: the place in `names` of the split of each row, int [m]."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def rows_of(self, split: str) -> slice:
        """The rows of a split."""
        place = self.names.index(split)
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [m, H*W*C]: the images of rows int [m] in any order, read from the shards."""
        shards, layout = self.manifest.all_shards, self.manifest.layout
        firsts = np.cumsum([0, *(shard.num_examples for shard in shards)])
        images = np.empty((len(rows), layout.image_bytes), np.uint8)
        of_row = np.searchsorted(firsts, rows, side="right") - 1
        for place in np.unique(of_row).tolist():
            records = file_bytes(self.directory / shards[place].name).reshape(-1, layout.stride)
            chosen = of_row == place
            images[chosen] = layout.decode(records[rows[chosen] - firsts[place]])[0]
        return images


def scan_rows(directory: str | os.PathLike, manifest: Manifest, perceptual: bool = False) -> RowTable:
    """Read every shard once, its checksums compared.

    Raises:
        InputError: a shard is missing or corrupt.
    """
    directory, splits = as_path(directory), list(manifest.splits.values())
    starts = np.cumsum([0, *(split.num_examples for split in splits)], dtype=np.int64)
    count = int(starts[-1])
    table = RowTable(
        directory,
        manifest,
        tuple(split.name for split in splits),
        starts,
        np.empty((count, 2), np.uint64),
        np.empty(count, np.int32),
        np.empty(count, np.int64),
        np.full((count, 2), np.nan, np.float32),
        np.empty((count, NUM_BITS), np.int16) if perceptual else None,
    )
    list_at_once(directory)
    with ThreadPoolExecutor(REQUESTS if is_remote(directory) else min(4, os.cpu_count() or 1)) as pool:
        for done in [pool.submit(_scan, table, job) for job in _jobs(table)]:
            done.result()
    return table


class _Job(NamedTuple):
    """Records of a shard from `first` on; `row` is the number of that row, every `sample_step`th row is sampled."""

    shard: ShardReader
    first: int
    num_rows: int
    row: int
    sample_step: int


def _jobs(table: RowTable) -> Iterator[_Job]:
    row = 0
    for split in table.manifest.splits.values():
        step = -(-split.num_examples // SAMPLED)
        for shard in split.shards:
            reader = ShardReader(table.directory, table.manifest, split, shard)
            block = reader.page_rows  # hashed while it is in cache: four at a time take twice the CPU time
            for first in range(0, shard.num_examples, block):
                yield _Job(reader, first, min(block, shard.num_examples - first), row + first, step)
            row += shard.num_examples


def _scan(table: RowTable, job: _Job) -> None:
    shard, first, count, row, step = job
    images, labels, ids = shard.read(first, count)
    rows = slice(row, row + count)
    table.labels[rows], table.ids[rows] = labels, ids
    digests = b"".join([xxhash.xxh3_128_digest(image) for image in images])
    table.hashes[rows] = np.frombuffer(digests, np.uint64).reshape(count, 2)
    sample = slice(-row % step, None, step)
    table.intensity[rows][sample] = measure_intensity(images[sample])
    if table.differences is not None:
        table.differences[rows] = differences(images.reshape(count, *table.manifest.image_shape))
