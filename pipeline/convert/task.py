"""One task of a plan: reads its rows and writes its shards."""

import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from pipeline.convert.csv.strict import Rows
from pipeline.convert.pixel_stats import PixelStats
from pipeline.convert.plan import Task
from pipeline.convert.source import SourceFile, changed_error
from pipeline.convert.workers import Ahead, Workers
from pipeline.files import sha256_of
from pipeline.format.manifest import Shard
from pipeline.format.records import IMAGE, UNLABELLED
from pipeline.format.shards import ShardWriter
from pipeline.remote import file_size, is_remote

OnRows = Callable[[int], None]
_HASH_CHARACTERS = 64


class IdRange(msgspec.Struct, frozen=True):
    """The ids of some rows; `increasing`: each is larger than the one before, so none occurs twice."""

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

    @property
    def all_shards(self) -> list[Shard]:
        """The shards of all splits."""
        return [shard for shards in self.shards.values() for shard in shards]


def result_path(index: int, directory: pathlib.Path) -> pathlib.Path:
    """Where `run_task` leaves the result of a task."""
    return directory / f"task-{index:05d}.json"


def load_result(task: Task, directory: pathlib.Path) -> TaskResult | None:
    """The result that an interrupted conversion left of this very task, if its shards are still what it wrote."""
    try:
        # It begins with the hash of the rest, because it is not flushed and may be cut after a power failure.
        data = result_path(task.index, directory).read_bytes()
        if hashlib.sha256(data[_HASH_CHARACTERS:]).hexdigest().encode() != data[:_HASH_CHARACTERS]:
            return None
        result = msgspec.json.decode(data[_HASH_CHARACTERS:], type=TaskResult)
        if result.fingerprint == task.fingerprint and all(
            _is_intact(directory / shard.name, shard) for shard in result.all_shards
        ):
            return result
    except (OSError, ValueError):
        pass
    return None


def _is_intact(path: pathlib.Path, shard: Shard) -> bool:
    # A store keeps objects whole or not at all, and reading them again would take as long as writing them.
    return file_size(path) == shard.num_bytes if is_remote(path) else sha256_of(path) == shard.sha256


def run_tasks(
    tasks: Sequence[Task], directory: pathlib.Path, workers: Workers, on_rows: OnRows | None = None
) -> Iterator[TaskResult]:
    """The result of each task in turn: a task per process, or one after another with their blocks spread over threads.

    Args:
        tasks: those to run.
        directory: where the shards go.
        workers: the threads or processes that run them.
        on_rows: called with the number of rows done since the last call.
    """
    if not workers.processes:
        for task in tasks:
            yield run_task(task, directory, workers.ahead, on_rows)
        return
    results = workers.ahead(functools.partial(run_task, directory=directory), tasks)
    for task, result in zip(tasks, results, strict=True):
        if on_rows is not None:
            on_rows(task.num_rows)
        yield result


def run_task(task: Task, directory: pathlib.Path, ahead: Ahead = map, on_rows: OnRows | None = None) -> TaskResult:
    """Write the task's shards into `directory`, all of them on the disk, then its result.

    Raises:
        InputError: at the first invalid row, or if a file changed since it was planned.
    """
    blocks = (
        (segment.file, block) for segment in task.segments for block in segment.file.read(segment.start, segment.stop)
    )
    stats, ids, num_rows = None, None, 0
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(_ShardSequence(directory, outputs, task.layout.stride))
            for name, outputs in task.outputs.items()
        }
        for records, block_stats, block_ids in ahead(
            functools.partial(_encode, task), _place(task, ahead(_parse, blocks))
        ):
            for name, part in records.items():
                writers[name].append(part)
            stats = block_stats if stats is None else stats + block_stats
            ids = block_ids if ids is None else ids + block_ids
            count = sum(map(len, records.values()))
            num_rows += count
            if on_rows is not None:
                on_rows(count)
    if num_rows != task.num_rows or stats is None or ids is None:
        raise changed_error(task.segments[0].file.path)
    result = TaskResult(task.fingerprint, {name: tuple(writer.shards) for name, writer in writers.items()}, stats, ids)
    data = msgspec.json.encode(result)
    # Without a flush: should it get lost in a power failure, the task is run again.
    result_path(task.index, directory).write_bytes(hashlib.sha256(data).hexdigest().encode() + data)
    return result


class _ShardSequence(contextlib.ExitStack):
    """Writes shards of (name, records) one after another, as a context manager; `shards` are those complete."""

    def __init__(self, directory: pathlib.Path, outputs: tuple[tuple[str, int], ...], stride: int) -> None:
        super().__init__()
        self.shards: list[Shard] = []
        self._directory, self._outputs, self._stride = directory, outputs, stride
        self._left = 0  # records that the open shard still lacks

    def append(self, records: np.ndarray) -> None:
        """Write records uint8 [n, stride] after those before, into the next shard when one is full."""
        while len(records):
            if not self._left:
                name, self._left = self._outputs[len(self.shards)]
                self._writer = self.enter_context(ShardWriter(self._directory / name, self._stride))
            part, records = records[: self._left], records[self._left :]
            self._writer.append(part)
            self._left -= len(part)
            if not self._left:
                self.shards.append(self._writer.finish())
                self.close()


def _parse(item: tuple[SourceFile, Any]) -> Rows:
    file, block = item
    return file.parse(block)


def _place(task: Task, parsed: Iterator[Rows]) -> Iterator[tuple]:
    """(rows, the first one's number in the split, which of them are drawn for validation) of each block in turn."""
    drawn = None
    if task.drawn is not None:
        drawn = np.unpackbits(np.frombuffer(task.drawn, np.uint8), count=task.num_rows).astype(bool)
    start = 0
    for rows in parsed:
        stop = start + len(rows.images)
        if stop > task.num_rows:
            raise changed_error(task.segments[0].file.path)
        if stop > start:  # a block of blank lines has no rows
            yield rows, task.first_row + start, None if drawn is None else drawn[start:stop]
        start = stop


def _encode(task: Task, block: tuple) -> tuple[dict[str, np.ndarray], PixelStats, IdRange]:
    """Records uint8 [n, stride] per split of the result, sums over the pixels of the first of them, and all ids."""
    rows, first_row, drawn = block
    count = len(rows.images)
    ids = np.arange(first_row, first_row + count) if rows.ids is None else rows.ids
    classes = np.full(count, UNLABELLED, np.int64)
    if rows.labels is not None:
        known = np.array(task.class_labels, np.int64)
        # A label that is not known gets the place of another, and the comparison notices.
        classes = np.searchsorted(known, rows.labels)
        if (np.append(known, UNLABELLED)[classes] != rows.labels).any():
            raise changed_error(task.segments[0].file.path)
    parts: list[Any] = [slice(None)] if drawn is None else [~drawn, drawn]
    records = {
        name: task.layout.encode(rows.images[part], classes[part], ids[part])
        for name, part in zip(task.outputs, parts, strict=True)
    }
    # The pixels of the records rather than those of `rows`: they were just written, so they are in the cache.
    kept = next(iter(records.values()))[:, task.layout.slices[IMAGE]]
    increasing = bool((ids[1:] > ids[:-1]).all())
    return records, PixelStats.of(kept, task.num_channels), IdRange(int(ids[0]), int(ids[-1]), increasing)
