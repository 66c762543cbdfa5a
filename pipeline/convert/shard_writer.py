"""Rows dealt to shards like cards: row r of a split goes to shard r % num_shards, so no total is needed in advance."""

import os
import pathlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from pipeline.convert.manifest import Shard
from pipeline.convert.schema import RecordLayout
from pipeline.convert.shard_pages import ShardDigest
from pipeline.convert.tfds_metadata import shard_name

MAX_SHARDS = 99_999  # what five digits in a file name can count
_FLUSH_BYTES = 8 << 20
_MAX_OPEN = 64  # files kept open for a split; with more shards each write opens and closes its file


def deal_rows(first_row: int, num_rows: int, num_shards: int) -> list[tuple[int, slice]]:
    """(shard, which of the rows first_row .. first_row + num_rows - 1 are its own) for each shard that gets any."""
    shards = min(num_shards, num_rows)
    return [((first_row + k) % num_shards, slice(k, num_rows, num_shards)) for k in range(shards)]


def encode_by_shard(
    layout: RecordLayout,
    images: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    chosen: np.ndarray,
    deal: list[tuple[int, slice]],
) -> np.ndarray:
    """Records uint8 [m, stride] of the rows `chosen`, int64 [m], in the order of `deal`: each shard's lie together."""
    return layout.encode(images, labels, ids, [chosen[rows] for _, rows in deal])


class SplitWriter:
    """The shard files of one split, appended to in the order of the rows; close it, also after an error.

    A thread sends what has been written to the disk meanwhile, so that little is left to wait for at the end.
    """

    def __init__(self, directory: pathlib.Path, split: str, num_shards: int):
        self._flusher = ThreadPoolExecutor(1)
        self._flushes: list[Future] = []
        self._num_unflushed = 0
        self._directory = directory
        self._split = split
        self._keep_open = num_shards <= _MAX_OPEN
        self._counts: dict[int, int] = {}
        self._digests: dict[int, ShardDigest] = {}
        self._files: dict[int, BinaryIO] = {}

    def append(self, records: np.ndarray, deal: list[tuple[int, slice]]) -> None:
        """Append what `encode_by_shard` gave for `deal`."""
        start = 0
        for shard, rows in deal:
            stop = start + len(range(len(records))[rows])
            data = memoryview(records[start:stop]).cast("B")
            self._digests.setdefault(shard, ShardDigest(records.shape[1])).update(data)
            self._counts[shard] = self._counts.get(shard, 0) + stop - start
            self._write(shard, data)
            start = stop
        self._num_unflushed += records.nbytes
        if self._num_unflushed > _FLUSH_BYTES and self._files:
            self._flushes.append(self._flusher.submit(_flush, tuple(self._files.values())))
            self._num_unflushed = 0

    def finish(self, dataset: str, stride: int) -> tuple[Shard, ...]:
        """Flush all to the disk and give the files their names, which need the number of shards that got a row."""
        for flush in self._flushes:
            flush.result()  # the system tells of a failed write only once
        self.close()
        shards = []
        for shard, count in sorted(self._counts.items()):
            name = shard_name(dataset, self._split, shard, len(self._counts))
            with self._path(shard).open("rb") as file:
                os.fsync(file.fileno())
            self._path(shard).rename(self._directory / name)
            digest = self._digests[shard]
            shards.append(Shard(name, count, count * stride, digest.page_crc32c, digest.sha256))
        return tuple(shards)

    def close(self) -> None:
        self._flusher.shutdown(cancel_futures=True)
        self._close_files()

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _path(self, shard: int) -> pathlib.Path:
        return self._directory / f"{self._split}-{shard:05d}.part"

    def _write(self, shard: int, data: memoryview) -> None:
        if shard not in self._files:
            self._files[shard] = self._path(shard).open("ab")
        self._files[shard].write(data)
        if not self._keep_open:
            self._close_files()


def _flush(files: tuple[BinaryIO, ...]) -> None:
    for file in files:
        os.fsync(file.fileno())
