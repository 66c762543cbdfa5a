"""Reading parts of a split that does not fit in memory: runs of whole records, decoded by the block."""

import pathlib

import numpy as np

from pipeline.convert.manifest import Manifest
from pipeline.feed.order import PageOrder, example_index
from pipeline.feed.resident import SplitArrays, check_shard, decode_records

PAGE_BYTES = 1 << 18  # large enough that a random read costs a disk little, small enough that a window mixes many

_WINDOWS_ALIVE = 4  # consumed, waiting, being read, and the blocks gathered from the first


class ShardReader:
    """Random access to the records of a split, by (shard, first record, count) or by rows of the CSV.

    Raises:
        InputError: a shard is missing or has another size (at once), or a record is damaged (when it is read).
    """

    def __init__(self, directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> None:
        self._manifest = manifest
        split = manifest.split(split_name)
        self.shard_rows = tuple(shard.num_examples for shard in split.shards)
        self.num_examples = split.num_examples
        self.image_bytes = manifest.layout.image_bytes
        self._paths = [check_shard(pathlib.Path(directory), manifest, shard) for shard in split.shards]

    def page_order(self, memory_budget: int, rows_per_call: int) -> PageOrder:
        """Pages and windows for a budget in bytes; a window is a whole number of calls, so that no call spans two."""
        stride = self._manifest.stride
        affordable = memory_budget // _WINDOWS_ALIVE // stride
        window_rows = max(1, affordable // rows_per_call) * rows_per_call
        return PageOrder(self.shard_rows, max(1, PAGE_BYTES // stride), window_rows)

    def read(self, reads: np.ndarray) -> tuple[SplitArrays, np.ndarray]:
        """Rows of `reads` int64 [m, 3] (shard, first record, count) in turn, and their rows in the split, int64 [n]."""
        arrays = self._empty(int(reads[:, 2].sum()))
        index = np.empty(len(arrays), np.int64)
        end = 0
        for shard, first, count in reads.tolist():
            start, end = end, end + count
            self._read_run(shard, first, arrays, slice(start, end))
            index[start:end] = example_index(shard, np.arange(first, first + count), len(self._paths))
        return arrays, index

    def read_rows(self, low: int, high: int) -> SplitArrays:
        """Rows low .. high - 1 in the order of the CSV."""
        arrays = self._empty(high - low)
        num_shards = len(self._paths)
        for shard in range(num_shards):
            first = -(-(low - shard) // num_shards) if low > shard else 0
            offset = first * num_shards + shard - low
            if offset < high - low:
                self._read_run(shard, first, arrays, slice(offset, high - low, num_shards))
        return arrays

    def _empty(self, rows: int) -> SplitArrays:
        return SplitArrays(
            np.empty((rows, self.image_bytes), np.uint8), np.empty(rows, np.int32), np.empty(rows, np.int64)
        )

    def _read_run(self, shard: int, first: int, arrays: SplitArrays, target: slice) -> None:
        stride, path = self._manifest.stride, self._paths[shard]
        rows = len(range(*target.indices(len(arrays))))
        block = np.fromfile(path, np.uint8, rows * stride, offset=first * stride).reshape(rows, stride)
        decoded = decode_records(path, self._manifest, block, first)
        arrays.images[target], arrays.labels[target], arrays.ids[target] = decoded
