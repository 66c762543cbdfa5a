"""One task of a plan: reads its rows and writes its shards."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from pipeline.convert.csv_parser import Rows
from pipeline.convert.pixel_stats import PixelStats
from pipeline.convert.plan import Task
from pipeline.convert.source import SourceFile
from pipeline.convert.workers import Ahead, serial
from pipeline.errors import InputError
from pipeline.files import sha256_of, write_bytes
from pipeline.format.manifest import Shard
from pipeline.format.records import IMAGE, UNLABELLED
from pipeline.format.shards import ShardWriter


class IdRange(msgspec.Struct, frozen=True):
    """The ids of a task's rows; `increasing`: each is larger than the one before, so none occurs twice."""

    first: int
    last: int
    increasing: bool

    def __add__(self, following: "IdRange") -> "IdRange":
        increasing = self.increasing and following.increasing and self.last < following.first
        return IdRange(self.first, following.last, increasing)


class TaskResult(msgspec.Struct, frozen=True):
    """What a task wrote, per split of the result, and the sums over its pixels without those of validation.

    `fingerprint` is the task's. The result is kept as a file beside the shards, by which a rerun recognises them.
    """

    fingerprint: str
    shards: dict[str, tuple[Shard, ...]]
    stats: PixelStats
    ids: IdRange


@dataclasses.dataclass
class _Progress:
    rows: int = 0
    ids: IdRange | None = None


def result_path(task: Task, directory: pathlib.Path) -> pathlib.Path:
    """Where `run_task` leaves its result."""
    return directory / f"task-{task.index:05d}.json"


def load_result(task: Task, directory: pathlib.Path) -> TaskResult | None:
    """The result that an interrupted conversion left of this very task, if its shards are still what it wrote."""
    try:
        result = msgspec.json.decode(result_path(task, directory).read_bytes(), type=TaskResult)
    except (OSError, ValueError):
        return None
    if result.fingerprint != task.fingerprint:
        return None
    for shard in (shard for shards in result.shards.values() for shard in shards):
        path = directory / shard.name
        if not path.is_file() or path.stat().st_size != shard.num_bytes or sha256_of(path) != shard.sha256:
            return None
    return result


def run_task(
    task: Task, directory: pathlib.Path, ahead: Ahead = serial, on_rows: Callable[[int], None] | None = None
) -> TaskResult:
    """Write the task's shards into `directory`, then its result, all of it on the disk.

    Args:
        ahead: runs a function over items in order, such as `Workers.ahead`; blocks are parsed and encoded with it.
        on_rows: called with the number of rows done since the last call.

    Raises:
        InputError: at the first invalid row, or if a file changed since it was planned.
    """
    blocks = (
        (segment.file, block) for segment in task.segments for block in segment.file.read(segment.start, segment.stop)
    )
    progress = _Progress()
    encoded = ahead(functools.partial(_encode, task), _place(task, ahead(_parse, blocks), progress))
    zeros = (0,) * task.image_shape[2]
    stats = PixelStats(0, zeros, zeros)
    with contextlib.ExitStack() as stack:
        stride = task.layout.stride
        writers = {
            name: stack.enter_context(_ShardSequence(directory, outputs, stride))
            for name, outputs in task.outputs.items()
        }
        for records, sums in encoded:
            for name, part in records.items():
                writers[name].append(part)
            stats += sums
            if on_rows is not None:
                on_rows(sum(map(len, records.values())))
    if progress.rows != task.num_rows or progress.ids is None:
        raise _changed(task)
    shards = {name: tuple(writer.shards) for name, writer in writers.items()}
    result = TaskResult(task.fingerprint, shards, stats, progress.ids)
    write_bytes(result_path(task, directory), msgspec.json.encode(result))
    return result


class _ShardSequence:
    """Writes shards of (name, records) one after another, as a context manager; `shards` are those complete."""

    def __init__(self, directory: pathlib.Path, outputs: tuple[tuple[str, int], ...], stride: int) -> None:
        self.shards: list[Shard] = []
        self._directory, self._outputs, self._stride = directory, outputs, stride
        self._left = 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "_ShardSequence":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def append(self, records: np.ndarray) -> None:
        """Write records uint8 [n, stride] after those before, into the next shard where one is full."""
        while len(records):
            if not self._left:
                if len(self.shards) == len(self._outputs):
                    raise InputError(f"{self._directory.name}: a source changed while it was read; convert again")
                name, self._left = self._outputs[len(self.shards)]
                self._writer = self._open.enter_context(ShardWriter(self._directory / name, self._stride))
            part, records = records[: self._left], records[self._left :]
            self._writer.append(part)
            self._left -= len(part)
            if not self._left:
                self.shards.append(self._writer.finish())
                self._open.close()


def _changed(task: Task) -> InputError:
    return InputError(f"{task.segments[0].file.path}: the file changed while it was read; convert again")


def _parse(item: tuple[SourceFile, Any]) -> Rows:
    file, block = item
    return file.parse(block)


def _place(task: Task, parsed: Iterator[Rows], progress: _Progress) -> Iterator[tuple]:
    """(images, labels, ids, which of them are drawn for validation) of each block in turn."""
    drawn = None
    if task.drawn is not None:
        drawn = np.unpackbits(np.frombuffer(task.drawn, np.uint8), count=task.num_rows).astype(bool)
    for rows in parsed:
        start, count = progress.rows, len(rows.images)
        if not count:
            continue
        first = task.first_row + start
        ids = np.arange(first, first + count) if rows.ids is None else rows.ids
        labels = np.full(count, UNLABELLED, np.int64) if rows.labels is None else rows.labels
        id_range = IdRange(int(ids[0]), int(ids[-1]), bool((ids[1:] > ids[:-1]).all()))
        progress.ids = id_range if progress.ids is None else progress.ids + id_range
        progress.rows += count
        yield rows.images, labels, ids, None if drawn is None else drawn[start : start + count]


def _encode(task: Task, block: tuple) -> tuple[dict[str, np.ndarray], PixelStats]:
    """Records uint8 [n, stride] per split of the result, and the sums over the pixels of the first of them."""
    images, labels, ids, drawn = block
    known = np.array(task.class_labels, np.int64)
    classes = np.searchsorted(known, labels)
    unlabelled = labels == UNLABELLED
    if not (unlabelled | (np.append(known, UNLABELLED)[classes] == labels)).all():
        raise _changed(task)
    classes[unlabelled] = UNLABELLED
    rows: list[Any] = [slice(None)] if drawn is None else [~drawn, drawn]
    records = {
        name: task.layout.encode(images[of], classes[of], ids[of]) for name, of in zip(task.outputs, rows, strict=True)
    }
    # What was just written is in the cache.
    kept = next(iter(records.values()))[:, task.layout.slices[IMAGE]]
    return records, PixelStats.of(kept, task.image_shape[2])
