"""Rows dealt to shards like cards: row r of a split goes to shard r % num_shards, so no total is needed in advance."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from pipeline.convert.journal import Stale
from pipeline.format.manifest import Shard
from pipeline.format.pages import ShardDigest
from pipeline.format.records import RecordLayout
from pipeline.format.tfds_metadata import shard_name

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
        self._num_shards = num_shards
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

    def mark(self) -> tuple[str, ...]:
        """SHA-256 of each shard that has rows, so far; the system has all of these bytes when it returns."""
        for file in self._files.values():
            file.flush()
        return tuple(self._digests[shard].sha256 for shard in sorted(self._digests))

    @property
    def paths(self) -> list[pathlib.Path]:
        """The files that have rows, under their names before `publish`."""
        return [self._path(shard) for shard in self._counts]

    def open_paths(self) -> list[pathlib.Path]:
        """The files that are kept open; what has been written to them may not have reached the disk."""
        return [self._path(shard) for shard in self._files]

    def take_up(self, hashes: Sequence[str], num_rows: int, stride: int, dataset: str) -> Iterator[np.ndarray]:
        """Go on with the files that an earlier process left, cut back to the first `num_rows` rows of the split.

        Yields those records in the order of the rows, uint8 [n, stride].

        Raises:
            Stale: they are not the bytes that `hashes`, from `mark`, stand for.
        """
        counts = [len(range(shard, num_rows, self._num_shards)) for shard in range(min(self._num_shards, num_rows))]
        for shard, (count, expected) in enumerate(zip(counts, hashes, strict=True)):
            published = self._directory / shard_name(dataset, self._split, shard, len(counts))
            self._digests[shard] = _cut_back(self._path(shard), published, count, stride, expected)
            self._counts[shard] = count
        at_once = max(1, _FLUSH_BYTES // (stride * max(1, len(counts))))
        for first in range(0, max(counts, default=0), at_once):
            yield self._read_back(first, at_once, num_rows, stride)

    def finish(self, dataset: str, stride: int) -> tuple[Shard, ...]:
        """Flush all to the disk; the shards as `publish` will name them."""
        for flush in self._flushes:
            flush.result()  # the system tells of a failed write only once
        self.close()
        shards = []
        for shard, count in sorted(self._counts.items()):
            name = shard_name(dataset, self._split, shard, len(self._counts))
            with self._path(shard).open("rb") as file:
                os.fsync(file.fileno())
            digest = self._digests[shard]
            shards.append(Shard(name, count, count * stride, digest.page_crc32c, digest.sha256))
        return tuple(shards)

    def publish(self, shards: Sequence[Shard]) -> None:
        """Give the files their names, which need the number of shards that got a row."""
        for index, shard in zip(sorted(self._counts), shards, strict=True):
            self._path(index).rename(self._directory / shard.name)

    def close(self) -> None:
        self._flusher.shutdown(cancel_futures=True)
        self._close_files()

    def _close_files(self) -> None:
        with contextlib.ExitStack() as stack:  # on a full disk each one may fail
            for file in self._files.values():
                stack.callback(file.close)
            self._files.clear()

    def _read_back(self, first: int, count: int, num_rows: int, stride: int) -> np.ndarray:
        """Records `first` .. `first + count - 1` of all shards, in the order of the rows."""
        shards = len(self._counts)
        stop = min((first + count) * shards, num_rows)
        records = np.empty((stop - first * shards, stride), np.uint8)
        for shard in self._counts:
            mine = records[shard::shards]
            with self._path(shard).open("rb") as file:
                file.seek(first * stride)
                mine[:] = np.fromfile(file, np.uint8, mine.size).reshape(mine.shape)
        return records

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


def _cut_back(path: pathlib.Path, published: pathlib.Path, num_rows: int, stride: int, sha256: str) -> ShardDigest:
    """Make a file what it was when it had so many rows; the checksums of these."""
    if published.exists():
        published.rename(path)
    if not path.is_file() or path.stat().st_size < num_rows * stride:
        raise Stale(f"{path.name} is missing or too short")
    os.truncate(path, num_rows * stride)
    digest = ShardDigest(stride)
    with path.open("rb") as file:
        while data := file.read(_FLUSH_BYTES):
            digest.update(data)
    if digest.sha256 != sha256:
        raise Stale(f"{path.name} is not as it was written")
    return digest
