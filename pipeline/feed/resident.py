"""A whole split in memory: one uint8 matrix, in the order of the CSV."""

import dataclasses
import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.feed.host_memory import aligned_matrix
from pipeline.format.manifest import Manifest
from pipeline.format.shards import ShardFile

_READ_PAGES = 4  # at a time, 1 MiB: so that a block is decoded while it is in cache


@dataclasses.dataclass(frozen=True)
class SplitArrays:
    """images uint8 [n, H*W*C], labels int32 [n] (-1 where there is none), ids int64 [n]; row i is the CSV's i-th."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load_split(directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> SplitArrays:
    """Read every shard of a split.

    Raises:
        InputError: the split or a shard is missing, or a shard is not as it was written; the message names the place
            and the command that mends it.
    """
    shards = open_shards(directory, manifest, split_name)
    count, pixels = manifest.split(split_name).num_examples, manifest.layout.image_bytes
    arrays = SplitArrays(aligned_matrix((count, pixels)), np.empty(count, np.int32), np.empty(count, np.int64))
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_load_shard, shard, place, len(shards), arrays) for place, shard in enumerate(shards)]
        for job in jobs:
            job.result()
    return arrays


def open_shards(directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> list[ShardFile]:
    """Every shard of a split, each found to be there in its size before any of them is read."""
    split = manifest.split(split_name)
    return [ShardFile(pathlib.Path(directory), manifest, split, shard) for shard in split.shards]


def _load_shard(shard: ShardFile, place: int, num_shards: int, arrays: SplitArrays) -> None:
    step = shard.page_rows * _READ_PAGES
    for first in range(0, shard.num_examples, step):
        rows = min(step, shard.num_examples - first)
        target = slice(place + first * num_shards, place + (first + rows - 1) * num_shards + 1, num_shards)
        arrays.images[target], arrays.labels[target], arrays.ids[target] = shard.read(first, rows)
