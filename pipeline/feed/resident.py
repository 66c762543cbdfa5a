"""A whole split in memory: one uint8 matrix, in the order of its rows."""

import dataclasses
import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.feed.host_memory import aligned_matrix
from pipeline.format.manifest import Manifest
from pipeline.format.shards import ShardReader

_READ_PAGES = 4  # per read, 1 MiB: so that a block is decoded while it is in cache


@dataclasses.dataclass(frozen=True)
class SplitArrays:
    """images uint8 [n, H*W*C], labels int32 [n] (-1 if there is none), ids int64 [n]."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def empty(cls, rows: int, image_bytes: int) -> "SplitArrays":
        """Uninitialised arrays to read into."""
        return cls(aligned_matrix((rows, image_bytes)), np.empty(rows, np.int32), np.empty(rows, np.int64))

    def read_from(self, shard: ShardReader, first: int, target: slice) -> None:
        """Fill the rows `target` with the records of a shard from `first` on."""
        values = shard.read(first, target.stop - target.start)
        self.images[target], self.labels[target], self.ids[target] = values


def load_split(directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> SplitArrays:
    """Read every shard of a split.

    Raises:
        InputError: the split or a shard is missing, or a shard is corrupt; the message gives the place and the command
            that repairs it.
    """
    shards = open_shards(directory, manifest, split_name)
    split = manifest.split(split_name)
    arrays = SplitArrays.empty(split.num_examples, manifest.layout.image_bytes)
    with ThreadPoolExecutor() as pool:
        starts = split.shard_starts.tolist()
        for done in [pool.submit(_load_shard, *job, arrays) for job in zip(shards, starts, strict=False)]:
            done.result()
    return arrays


def open_shards(directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> list[ShardReader]:
    """Every shard of a split; all sizes are checked before the first one is read or memory is allocated for it."""
    split = manifest.split(split_name)
    return [ShardReader(pathlib.Path(directory), manifest, split, shard) for shard in split.shards]


def _load_shard(shard: ShardReader, start: int, arrays: SplitArrays) -> None:
    step = shard.page_rows * _READ_PAGES
    for first in range(0, shard.num_examples, step):
        arrays.read_from(shard, first, slice(start + first, start + min(first + step, shard.num_examples)))
