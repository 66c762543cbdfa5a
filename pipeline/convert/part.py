"""Rows on their way into the shards of one split: encoded by the pool, written in order, and counted."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future

import numpy as np

from pipeline.convert.journal import Mark
from pipeline.convert.pixel_stats import PixelStats
from pipeline.convert.shard_writer import SplitWriter, deal_rows, encode_by_shard
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_CLASSES, Split
from pipeline.format.records import IMAGE, UNLABELLED, RecordLayout

_ENCODES_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the records of a data set go, and what they are like."""

    directory: pathlib.Path
    dataset: str
    num_shards: int
    image_shape: tuple[int, int, int]

    @property
    def layout(self) -> RecordLayout:
        height, width, channels = self.image_shape
        return RecordLayout(height * width * channels)


class Part:
    """A split being written. `class_labels`, int64 ascending, maps labels to classes; None takes them as they are."""

    def __init__(self, name: str, target: Target, pool: Executor, class_labels: np.ndarray | None, with_stats: bool):
        self.name = name
        self.num_rows = 0
        self.label_counts: collections.Counter = collections.Counter()
        self.stats = PixelStats(target.image_shape[2]) if with_stats else None
        self._target = target
        self._layout = target.layout
        self._pool = pool
        self._class_labels = class_labels
        self._writer = SplitWriter(target.directory, name, target.num_shards)
        self._pending: collections.deque[tuple[Future, list]] = collections.deque()

    def add(self, images: np.ndarray, labels: np.ndarray, ids: np.ndarray, chosen: np.ndarray) -> None:
        """Take the rows with indices `chosen`, int64 [m], of a block."""
        if len(chosen) == 0:
            return
        self.label_counts.update(labels[chosen].tolist())
        if len(self.label_counts) > MAX_CLASSES:
            raise InputError(f"split {self.name!r}: over {MAX_CLASSES:,} different labels; is that column the label?")
        deal = deal_rows(self.num_rows, len(chosen), self._target.num_shards)
        future = self._pool.submit(self._encode, images, labels, ids, chosen, deal)
        self._pending.append((future, deal))
        self.num_rows += len(chosen)
        if len(self._pending) > _ENCODES_AHEAD:
            self._write_next()

    def mark(self) -> Mark:
        """How much has been written, which is then all that was added."""
        self._write_pending()
        return Mark(self.num_rows, self._writer.mark())

    @property
    def paths(self) -> list[pathlib.Path]:
        """The files written so far, until they are published."""
        return self._writer.paths

    def unsynced(self) -> list[pathlib.Path]:
        """Files whose bytes may not have reached the disk."""
        return self._writer.open_paths()

    def take_up(self, mark: Mark) -> Iterator[np.ndarray]:
        """Go on from what an earlier process wrote, counting its rows; yields their ids, int64 [n].

        Raises:
            Stale: it is not what the mark says.
        """
        rows = self._writer.take_up(mark.sha256, mark.num_rows, self._layout.stride, self._target.dataset)
        for records in rows:
            images, classes, ids = self._layout.decode(records)
            self.label_counts.update(self._labels(classes).tolist())
            if self.stats is not None:
                self.stats.merge(PixelStats.of(images, self._target.image_shape[2]))
            yield ids
        self.num_rows = mark.num_rows

    def finish(self) -> Split:
        """The split, all of it on the disk; its class counts are left to who knows all labels."""
        self._write_pending()
        return Split(self.name, self.num_rows, (), self._writer.finish(self._target.dataset, self._layout.stride))

    def publish(self, split: Split) -> None:
        """Give the shards of a finished split their names."""
        self._writer.publish(split.shards)

    def close(self) -> None:
        for future, _ in self._pending:
            future.cancel()
        self._writer.close()

    def _encode(self, images, labels, ids, chosen, deal) -> tuple[np.ndarray, PixelStats | None]:
        records = encode_by_shard(self._layout, images, self._classes(labels), ids, chosen, deal)
        if self.stats is None:
            return records, None
        # The sums do not depend on the order, and what was just written is in the cache.
        return records, PixelStats.of(records[:, self._layout.slices[IMAGE]], self._target.image_shape[2])

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        if self._class_labels is None:
            return labels
        return np.where(labels == UNLABELLED, UNLABELLED, np.searchsorted(self._class_labels, labels))

    def _labels(self, classes: np.ndarray) -> np.ndarray:
        if self._class_labels is None:
            return classes
        return np.where(classes == UNLABELLED, UNLABELLED, self._class_labels[classes])

    def _write_pending(self) -> None:
        while self._pending:
            self._write_next()

    def _write_next(self) -> None:
        future, deal = self._pending.popleft()
        records, stats = future.result()
        if stats is not None:
            self.stats.merge(stats)
        self._writer.append(records, deal)
