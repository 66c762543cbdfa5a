"""A whole split in memory: one uint8 matrix, in the order of its rows, that a tensor shares without a copy."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from pipeline.format.manifest import Manifest
from pipeline.format.shards import ShardReader
from pipeline.remote import REQUESTS, as_path, is_remote, list_at_once

if TYPE_CHECKING:
    import tensorflow as tf

_ALIGNMENT = 64  # bytes, that TensorFlow's kernels expect (EIGEN_MAX_ALIGN_BYTES)
_MOVED_ROWS = 1 << 12
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

    def select(self, rows: np.ndarray) -> "SplitArrays":
        """A copy of these rows, int [m], in their order."""
        selected = SplitArrays.empty(len(rows), self.images.shape[1])
        for source, target in zip(self._columns, selected._columns, strict=True):
            np.take(source, rows, axis=0, out=target, mode="clip")  # any other mode makes a copy first
        return selected

    def keep(self, rows: np.ndarray) -> "SplitArrays":
        """These rows alone, int [m] ascending, moved to the front of the same memory; `self` is of no use afterwards.

        The split may be too large for a second copy, so rows are moved by the block.
        """
        for start in range(0, len(rows), _MOVED_ROWS):
            block = rows[start : start + _MOVED_ROWS]
            for array in self._columns:
                array[start : start + len(block)] = array[block]
        return SplitArrays(*(array[: len(rows)] for array in self._columns))

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.images, self.labels, self.ids

    def read_from(self, shard: ShardReader, first: int, target: slice, picked: np.ndarray | None = None) -> None:
        """Fill the rows `target` with the records of a shard from `first` on, or those `picked` of them, ascending."""
        values = shard.read(first, target.stop - target.start if picked is None else int(picked[-1]) + 1)
        for column, read in zip(self._columns, values, strict=True):
            column[target] = read if picked is None else read[picked]


def load_split(directory: str | pathlib.Path, manifest: Manifest, *split_names: str) -> SplitArrays:
    """Read every shard of a split, or of several in turn.

    Raises:
        InputError: a split or a shard is missing, or a shard is corrupt; the message gives the place and the command
            that repairs it.
    """
    shards = [shard for name in split_names for shard in open_shards(directory, manifest, name)]
    stops = list(itertools.accumulate(shard.num_examples for shard in shards))
    arrays = SplitArrays.empty(stops[-1], manifest.layout.image_bytes)
    starts = [stop - shard.num_examples for shard, stop in zip(shards, stops, strict=True)]
    jobs = [
        (shard, first, slice(start + first, start + min(first + step, shard.num_examples)))
        for shard, start in zip(shards, starts, strict=True)
        for step in [shard.page_rows * _READ_PAGES]
        for first in range(0, shard.num_examples, step)
    ]
    read_all(arrays, jobs, REQUESTS if is_remote(shards[0].path) else os.cpu_count() or 1)
    return arrays


def read_all(arrays: SplitArrays, jobs: Sequence[tuple], threads: int) -> None:
    """`read_from` for each job, a tuple of its arguments, by so many threads.

    Raises:
        InputError: that of the first job that has one; jobs that have not begun then are not run.
    """
    if threads == 1:
        for job in jobs:
            arrays.read_from(*job)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda job: arrays.read_from(*job), jobs):
            pass


def open_shards(directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> list[ShardReader]:
    """Every shard of a split; all sizes are checked before the first one is read or memory is allocated for it."""
    split = manifest.split(split_name)
    directory = as_path(directory)
    list_at_once(directory)
    return [ShardReader(directory, manifest, split, shard) for shard in split.shards]


def aligned_matrix(shape: tuple[int, int]) -> np.ndarray:
    """An uninitialised uint8 matrix that TensorFlow takes without a copy, by `host_tensor` or from `numpy_function`."""
    size = shape[0] * shape[1]
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + size].reshape(shape)


def host_tensor(array: np.ndarray) -> "tf.Tensor":
    """The array as a tensor on the host; if aligned, it is the same memory, which must not be written to any more.

    `tf.convert_to_tensor` copies an array twice and keeps both (measured with TensorFlow 2.21: 1.3 s and 910 MB for
    470 MB), and puts it on a GPU if there is one. NumPy's own memory also lies in huge pages.
    """
    import tensorflow as tf  # here, because reading arrays needs no TensorFlow

    plain = array.flags.c_contiguous and array.flags.writeable and array.dtype.isnative
    if not plain or array.ctypes.data % _ALIGNMENT:
        with tf.device("CPU:0"):
            return tf.convert_to_tensor(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
