"""Reading parts of a split that does not fit in memory: runs of whole records, decoded by the block."""

import pathlib
from collections.abc import Sequence

import numpy as np

from pipeline.feed.host_memory import aligned_matrix
from pipeline.feed.order import PageOrder, example_index
from pipeline.feed.resident import SplitArrays, open_shards
from pipeline.format.manifest import Manifest
from pipeline.format.pages import page_rows

_WINDOWS_ALIVE = 4  # consumed, waiting, being read, and the blocks gathered from the first


def plan_pages(shard_rows: Sequence[int], stride: int, memory_budget: int, rows_per_call: int) -> PageOrder:
    """Pages and windows for a budget in bytes; a window is a whole number of calls, so that no call spans two."""
    affordable = memory_budget // _WINDOWS_ALIVE // stride
    window_rows = max(1, affordable // rows_per_call) * rows_per_call
    return PageOrder(tuple(shard_rows), page_rows(stride), window_rows)


class ShardReader:
    """Random access to the records of a split, by (shard, first record, count) or by rows of the CSV.

    Raises:
        InputError: a shard is missing or has another size (at once), or a record is damaged (when it is read).
    """

    def __init__(self, directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> None:
        self._shards = open_shards(directory, manifest, split_name)
        self._stride = manifest.stride
        self.shard_rows = tuple(shard.num_examples for shard in self._shards)
        self.num_examples = sum(self.shard_rows)
        self.image_bytes = manifest.layout.image_bytes

    def page_order(self, memory_budget: int, rows_per_call: int) -> PageOrder:
        """`plan_pages` of this split."""
        return plan_pages(self.shard_rows, self._stride, memory_budget, rows_per_call)

    def read(self, reads: np.ndarray) -> tuple[SplitArrays, np.ndarray]:
        """Rows of `reads` int64 [m, 3] (shard, first record, count) in turn, and their rows in the split, int64 [n]."""
        arrays = self._empty(int(reads[:, 2].sum()))
        index = np.empty(len(arrays), np.int64)
        end = 0
        for shard, first, count in reads.tolist():
            start, end = end, end + count
            self._read_run(shard, first, arrays, slice(start, end))
            index[start:end] = example_index(shard, np.arange(first, first + count), len(self._shards))
        return arrays, index

    def read_rows(self, low: int, high: int) -> SplitArrays:
        """Rows low .. high - 1 in the order of the CSV."""
        arrays = self._empty(high - low)
        num_shards = len(self._shards)
        for shard in range(num_shards):
            first = -(-(low - shard) // num_shards) if low > shard else 0
            offset = first * num_shards + shard - low
            if offset < high - low:
                self._read_run(shard, first, arrays, slice(offset, high - low, num_shards))
        return arrays

    def _empty(self, rows: int) -> SplitArrays:
        return SplitArrays(aligned_matrix((rows, self.image_bytes)), np.empty(rows, np.int32), np.empty(rows, np.int64))

    def _read_run(self, shard: int, first: int, arrays: SplitArrays, target: slice) -> None:
        rows = len(range(*target.indices(len(arrays))))
        arrays.images[target], arrays.labels[target], arrays.ids[target] = self._shards[shard].read(first, rows)
