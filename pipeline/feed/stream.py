"""Reading parts of a split that does not fit in memory: runs of whole records, decoded block by block."""

import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from pipeline.feed.order import PageOrder, WorkerShare
from pipeline.feed.resident import SplitArrays, open_shards, read_all
from pipeline.format.manifest import Manifest
from pipeline.format.records import page_rows
from pipeline.remote import REQUESTS, is_remote

_GOLDEN = (5**0.5 - 1) / 2
_WINDOWS_ALIVE = 4  # consumed, waiting, being read, and the blocks gathered from the first


def plan_pages(
    shard_rows: Sequence[int], stride: int, memory_budget: int, steps_per_call: int, share: WorkerShare
) -> PageOrder:
    """Pages and a worker's windows for its budget in bytes; a window is whole calls, so that no call spans two."""
    rows_per_call = share.per_step * steps_per_call
    affordable = memory_budget // _WINDOWS_ALIVE // stride
    window_rows = max(1, affordable // rows_per_call) * rows_per_call
    return PageOrder(tuple(shard_rows), page_rows(stride), window_rows, share)


class SplitReader:
    """Random access to the records of a split, by (shard, first record, count) or by rows of the split.

    Raises:
        InputError: a shard is missing or has another size (at once), or a record is corrupt (when it is read).
    """

    def __init__(self, directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> None:
        self._shards = open_shards(directory, manifest, split_name)
        self._starts = manifest.split(split_name).shard_starts
        self._stride = manifest.stride
        self.shard_rows = tuple(shard.num_examples for shard in self._shards)
        self.image_bytes = manifest.layout.image_bytes

    def __len__(self) -> int:
        return sum(self.shard_rows)

    def page_order(self, memory_budget: int, steps_per_call: int, share: WorkerShare) -> PageOrder:
        """`plan_pages` of this split."""
        return plan_pages(self.shard_rows, self._stride, memory_budget, steps_per_call, share)

    def read(self, reads: np.ndarray) -> tuple[SplitArrays, np.ndarray]:
        """Rows of `reads` int64 [m, 3] (shard, first record, count) in turn, and their rows in the split, int64 [n]."""
        arrays = SplitArrays.empty(int(reads[:, 2].sum()), self.image_bytes)
        rows = np.empty(len(arrays), np.int64)
        jobs, start = [], 0
        for shard, first, count in reads.tolist():
            target = slice(start, start + count)
            start += count
            jobs.append((self._shards[shard], first, target))
            rows[target] = np.arange(first, first + count) + self._starts[shard]
        self._run(arrays, jobs)
        return arrays, rows

    def pick(self, rows: np.ndarray) -> SplitArrays:
        """These rows of the split, int64 [n] ascending; each page is read once."""
        arrays = SplitArrays.empty(len(rows), self.image_bytes)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        records, page_rows = rows - self._starts[shards], self._shards[0].page_rows
        pages = np.column_stack([shards, records // page_rows])
        edges = [0, *(np.flatnonzero((pages[1:] != pages[:-1]).any(1)) + 1).tolist(), len(rows)]
        jobs = [
            (self._shards[shards[low]], int(records[low]), slice(low, high), records[low:high] - records[low])
            for low, high in itertools.pairwise(edges)
        ]
        self._run(arrays, jobs)
        return arrays

    def _run(self, arrays: SplitArrays, jobs: Sequence[tuple]) -> None:
        # A disk reads ahead while a page is decoded; a store answers one request after another only if it must.
        read_all(arrays, jobs, REQUESTS if is_remote(self._shards[0].path) else 1)

    def reads_of(self, low: int, high: int) -> np.ndarray:
        """int64 [m, 3]: shard, first record, count - rows low .. high - 1 of the split."""
        # Empty for shards without such rows, which the last line drops.
        first, stop = np.maximum(low, self._starts[:-1]), np.minimum(high, self._starts[1:])
        reads = np.column_stack([np.arange(len(first)), first - self._starts[:-1], stop - first])
        return reads[first < stop]

    def read_rows(self, low: int, high: int) -> SplitArrays:
        """Rows low .. high - 1 of the split."""
        return self.read(self.reads_of(low, high))[0]


def read_sample(directory: str | pathlib.Path, manifest: Manifest, split_name: str, limit: int) -> SplitArrays:
    """Up to `limit` rows of a split, spread over it: always the same ones; only their pages are read."""
    rows = _spread(manifest.split(split_name).num_examples, limit)
    return SplitReader(directory, manifest, split_name).pick(rows)


def _spread(num_rows: int, limit: int) -> np.ndarray:
    """About `limit` of the rows 0 .. num_rows - 1, one from each stretch of equal length."""
    if num_rows <= limit:
        return np.arange(num_rows)
    # Not at equal distances, which would meet one class only if labels repeat in a cycle.
    place = np.arange(limit) + np.arange(limit) * _GOLDEN % 1
    return np.unique((place * num_rows / limit).astype(np.int64))
