"""A conversion as a plan of independent tasks: which rows of which files become which shards.

A quick first pass counts rows and reads labels. All that must be known of the whole data set is decided here: classes,
the validation split, and the bounds of the shards, each of which holds consecutive rows. A task is then a pure function
of the files and its entry in the plan: resuming runs the tasks that are missing, repairing those that are damaged.
"""

import bisect
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.convert.source import Mark, Scan, SourceFile
from pipeline.convert.validation import ValidationSampler
from pipeline.convert.workers import Workers
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_CLASSES, VERSION, Source, Validation
from pipeline.format.records import UNLABELLED, RecordLayout
from pipeline.format.tfds_metadata import shard_name
from pipeline.splits import VAL

SHARD_BYTES = 128 << 20  # of a shard if no number of shards is given
_SAMPLED_ROWS = 1 << 20  # at a time, which bounds the memory of sorting them


Labels = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a plan must follow. `shards` None: by size. `classes` maps the labels of the files to those of the classes,
    both ascending, and the names of the classes."""

    dataset: str
    image_shape: tuple[int, int, int]
    shards: int | Mapping[str, int] | None = None
    validation: Validation = Validation()
    classes: Callable[[Labels], tuple[Labels, tuple[str, ...]]] = lambda labels: (labels, tuple(map(str, labels)))

    @property
    def layout(self) -> RecordLayout:
        height, width, channels = self.image_shape
        return RecordLayout(height * width * channels)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Consecutive rows of a file, from a mark up to the text's byte `stop` (None: its end)."""

    file: SourceFile
    start: Mark
    stop: int | None


@dataclasses.dataclass(frozen=True)
class Task:
    """Rows to read, in order, and the shards to write them to; a pure function of the plan.

    `first_row` is the number of the first one in its split, `drawn` has a bit per row (np.packbits) that is set if the
    row goes to validation, and `outputs` lists (shard's name, records) per split. `fingerprint` pins all of it.
    """

    index: int
    split: str
    segments: tuple[Segment, ...]
    num_rows: int
    first_row: int
    image_shape: tuple[int, int, int]
    class_labels: tuple[int, ...]
    drawn: bytes | None
    outputs: dict[str, tuple[tuple[str, int], ...]]
    fingerprint: str = ""

    @property
    def layout(self) -> RecordLayout:
        height, width, channels = self.image_shape
        return RecordLayout(height * width * channels)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All tasks, in the order of the rows, and what is known before any of them has run.

    `class_counts` has the examples of each class, per split of the result, and () for a split without labels.
    """

    rules: Rules
    tasks: tuple[Task, ...]
    sources: tuple[Source, ...]
    class_names: tuple[str, ...]
    class_counts: dict[str, tuple[int, ...]]
    planned_shards: dict[str, int]

    @property
    def num_rows(self) -> int:
        return sum(task.num_rows for task in self.tasks)


@dataclasses.dataclass(frozen=True)
class _FileScan:
    file: SourceFile
    marks: tuple[Mark, ...]
    num_rows: int
    labels: np.ndarray
    sha256: str

    def as_source(self, split: str) -> Source | None:
        return self.file.as_source(split, self.num_rows, self.sha256)

    def mark_of_row(self, row: int) -> Mark:
        place = bisect.bisect_right(self.marks, row, key=lambda mark: mark.row) - 1
        return self.file.mark_of_row(self.marks[place], row)


def make_plan(inputs: Mapping[str, Sequence[SourceFile]], rules: Rules, workers: Workers) -> Plan:
    """Scan the files of each split and decide who writes what.

    Raises:
        InputError: a file has no rows, too many classes, or a split would have no rows.
    """
    scans = _scan(inputs, workers)
    values = [np.unique(scan.labels) for group in scans.values() for scan in group]
    labels, names = rules.classes(tuple(label for label in np.unique(np.concatenate(values)).tolist() if label >= 0))
    if len(labels) > MAX_CLASSES:
        raise InputError(f"over {MAX_CLASSES:,} different labels; is the label column the right one?")
    tasks: list[Task] = []
    sources: list[Source] = []
    counts: dict[str, tuple[int, ...]] = {}
    shards: dict[str, int] = {}
    for split, group in scans.items():
        of_split = [source for scan in group if (source := scan.as_source(split)) is not None]
        drawn = _draw(rules.validation, split, group)
        for name, rows in ((split, ~drawn), (VAL, drawn)) if drawn is not None else ((split, None),):
            counts[name] = _class_counts(group, labels, rows)
        num_shards = _num_shards(rules, split, sum(scan.num_rows for scan in group))
        tasks += _plan_split(rules, split, group, num_shards, labels, drawn, len(tasks))
        if of_split:
            shards[split] = num_shards
        sources += of_split
    return Plan(rules, tuple(tasks), tuple(sources), names, counts, shards)


def _scan(inputs: Mapping[str, Sequence[SourceFile]], workers: Workers) -> dict[str, list[_FileScan]]:
    jobs: list[tuple[SourceFile, int, int | None]] = []
    for file in itertools.chain.from_iterable(inputs.values()):
        starts = file.scan_starts()
        jobs += [(file, start, stop) for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    stretches = zip(jobs, workers.ahead(_scan_stretch, jobs), strict=True)
    by_file = itertools.groupby(stretches, key=lambda pair: pair[0][0])
    scans = (_join(file, [scan for _, scan in pairs]) for file, pairs in by_file)
    result = {split: [next(scans) for _ in group] for split, group in inputs.items()}
    next(scans, None)
    return result


def _scan_stretch(job: tuple[SourceFile, int, int | None]) -> Scan:
    file, start, stop = job
    return file.scan(start, stop)


def _join(file: SourceFile, stretches: Sequence[Scan]) -> _FileScan:
    marks: list[Mark] = []
    labels: list[np.ndarray] = []
    row = 0
    for stretch in stretches:
        marks += [Mark(mark.offset, row + mark.row) for mark in stretch.marks]
        labels += stretch.labels or [np.full(stretch.num_rows, UNLABELLED, np.int8)]
        row += stretch.num_rows
    if not row:
        raise file.empty_error()
    digest = hashlib.sha256(b"".join(stretch.digest for stretch in stretches)).hexdigest()
    return _FileScan(file, tuple(marks), row, np.concatenate(labels), digest)


def _draw(rule: Validation, split: str, group: Sequence[_FileScan]) -> np.ndarray | None:
    """bool [rows of the split]: the rows that go to validation; None if none are taken out of this split."""
    if not rule.fraction or split != rule.source:
        return None
    sampler, drawn = ValidationSampler(rule.fraction, rule.seed, rule.group_size), []
    for scan in group:
        sampler.start_file()
        for start in range(0, len(scan.labels), _SAMPLED_ROWS):
            drawn.append(sampler.select(scan.labels[start : start + _SAMPLED_ROWS].astype(np.int64)))
    rows = np.concatenate(drawn)
    for name, count in ((split, int((~rows).sum())), (VAL, int(rows.sum()))):
        if not count:
            raise InputError(
                f"validation fraction {rule.fraction}: no row is left for {name!r} out of {len(rows):,}; "
                "choose another fraction or group size"
            )
    return rows


def _class_counts(group: Sequence[_FileScan], labels: tuple[int, ...], rows: np.ndarray | None) -> tuple[int, ...]:
    if not group[0].file.has_labels:
        return ()
    values = np.concatenate([scan.labels for scan in group])
    classes = np.searchsorted(np.array(labels, np.int64), values if rows is None else values[rows])
    return tuple(np.bincount(classes, minlength=len(labels))[: len(labels)].tolist())


def _num_shards(rules: Rules, split: str, num_rows: int) -> int:
    if isinstance(rules.shards, Mapping):
        return rules.shards[split]
    by_size = -(-num_rows * rules.layout.stride // SHARD_BYTES)
    return min(num_rows, by_size if rules.shards is None else rules.shards)


def shard_bounds(file_rows: Sequence[int], seekable: Sequence[bool], num_shards: int) -> list[int]:
    """Row at which each shard of a split starts, and their end: even shards, or even within each file.

    A file that cannot be entered in the middle is read by one task. If there are shards enough, none holds rows of two
    such files, so that their tasks are independent.
    """
    total, num_files = sum(file_rows), len(file_rows)
    if all(seekable) or num_shards < num_files:
        return [k * total // num_shards for k in range(num_shards + 1)]
    spare = num_shards - num_files
    shares = [spare * rows / total for rows in file_rows]
    counts = [1 + int(share) for share in shares]
    by_remainder = sorted(range(num_files), key=lambda k: int(shares[k]) - shares[k])
    for k in by_remainder[: num_shards - sum(counts)]:
        counts[k] += 1
    bounds, start = [0], 0
    for rows, count in zip(file_rows, counts, strict=True):
        count = min(count, rows)
        bounds += [start + k * rows // count for k in range(1, count + 1)]
        start += rows
    return bounds


def _plan_split(
    rules: Rules,
    split: str,
    group: Sequence[_FileScan],
    num_shards: int,
    labels: tuple[int, ...],
    drawn: np.ndarray | None,
    first_index: int,
) -> list[Task]:
    starts = [0, *itertools.accumulate(scan.num_rows for scan in group)]
    seekable = [scan.file.seekable for scan in group]
    bounds = shard_bounds([scan.num_rows for scan in group], seekable, num_shards)
    inside = {
        row for row in bounds for k, can_seek in enumerate(seekable) if not can_seek and starts[k] < row < starts[k + 1]
    }
    names = _shard_names(rules.dataset, split, bounds, drawn)
    tasks: list[Task] = []
    for low, high in itertools.pairwise([row for row in bounds if row not in inside]):
        shards = [(start, stop) for start, stop in itertools.pairwise(bounds) if low <= start and stop <= high]
        task = Task(
            index=first_index + len(tasks),
            split=split,
            segments=_segments(group, starts, low, high),
            num_rows=high - low,
            first_row=low,
            image_shape=rules.image_shape,
            class_labels=labels,
            drawn=None if drawn is None else np.packbits(drawn[low:high]).tobytes(),
            outputs={name: tuple(of[shard] for shard in shards if shard in of) for name, of in names.items()},
        )
        tasks.append(dataclasses.replace(task, fingerprint=_fingerprint(task, group)))
    return tasks


def _shard_names(
    dataset: str, split: str, bounds: Sequence[int], drawn: np.ndarray | None
) -> dict[str, dict[tuple[int, int], tuple[str, int]]]:
    """Per split of the result: bounds of a shard -> its file name and records; shards that get none have no entry."""
    counts: dict[str, dict[tuple[int, int], int]] = {split: {}} if drawn is None else {split: {}, VAL: {}}
    for low, high in itertools.pairwise(bounds):
        num_drawn = 0 if drawn is None else int(drawn[low:high].sum())
        counts[split][low, high] = high - low - num_drawn
        if drawn is not None:
            counts[VAL][low, high] = num_drawn
    names = {}
    for name, of in counts.items():
        filled = {shard: count for shard, count in of.items() if count}
        names[name] = {
            shard: (shard_name(dataset, name, place, len(filled)), count)
            for place, (shard, count) in enumerate(filled.items())
        }
    return names


def _segments(group: Sequence[_FileScan], starts: Sequence[int], low: int, high: int) -> tuple[Segment, ...]:
    segments = []
    for scan, start, stop in zip(group, starts, starts[1:], strict=False):
        if start < high and stop > low:
            first = scan.mark_of_row(max(low - start, 0))
            end = None if high >= stop else scan.mark_of_row(high - start).offset
            segments.append(Segment(scan.file, first, end))
    return tuple(segments)


def _fingerprint(task: Task, group: Sequence[_FileScan]) -> str:
    marks = [(segment.start, segment.stop) for segment in task.segments]
    files = [(scan.sha256, scan.as_source(task.split)) for scan in group]
    rest = (task.first_row, task.image_shape, task.class_labels, task.drawn, task.outputs)
    return hashlib.sha256(
        repr((VERSION, task.split, marks, files, *rest)).encode(errors="backslashreplace")
    ).hexdigest()
