"""A conversion as a plan of independent tasks: which rows of which files become which shards.

A quick first pass counts rows and reads labels. All that must be known of the whole data set is decided here: classes,
the validation split, and the bounds of the shards, each of which holds consecutive rows. A task is then a pure function
of the files and its entry in the plan: resuming runs the missing tasks, repairing those of corrupt shards.
"""

import bisect
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from pipeline.convert.source import Mark, Scan, SourceFile
from pipeline.convert.workers import Workers
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_CLASSES, VERSION, Reading, Source, Validation
from pipeline.format.records import RecordLayout
from pipeline.format.tfds_metadata import shard_name
from pipeline.splits import VAL, ValidationSampler

SHARD_BYTES = 128 << 20  # of a shard if no number of shards is given
_SAMPLED_ROWS = 1 << 20  # at a time, which bounds the memory of sorting them

Labels = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a plan must follow. `shards` None: by size. `classes` maps the labels of the files to those of the classes,
    both ascending, and the names of the classes. `reading` is for the manifest."""

    dataset: str
    image_shape: tuple[int, int, int]
    shards: int | Mapping[str, int] | None = None
    validation: Validation = Validation()
    classes: Callable[[Labels], tuple[Labels, tuple[str, ...]]] = lambda labels: (labels, tuple(map(str, labels)))
    reading: Reading | msgspec.UnsetType = msgspec.UNSET

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
    layout: RecordLayout
    num_channels: int
    class_labels: Labels
    drawn: bytes | None
    outputs: dict[str, tuple[tuple[str, int], ...]]
    fingerprint: str


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
    labels: np.ndarray
    sha256: str

    def as_source(self, split: str) -> Source | None:
        return self.file.as_source(split, len(self.labels), self.sha256)

    def mark_of_row(self, row: int) -> Mark:
        place = bisect.bisect_right(self.marks, row, key=lambda mark: mark.row) - 1
        return self.file.mark_of_row(self.marks[place], row)


def make_plan(inputs: Mapping[str, Sequence[SourceFile]], rules: Rules, workers: Workers) -> Plan:
    """Scan the files of each split and decide which task writes what.

    Raises:
        InputError: a file has no rows, too many classes, or a split would have no rows.
    """
    scans = _scan(inputs, workers)
    values = np.unique(np.concatenate([np.unique(scan.labels) for group in scans.values() for scan in group]))
    labels, names = rules.classes(tuple(values[values >= 0].tolist()))
    if len(labels) > MAX_CLASSES:
        file = next(scan.file for group in scans.values() for scan in group if scan.file.has_labels)
        raise InputError(f"{file.path}: over {MAX_CLASSES:,} different labels; is the label column the right one?")
    tasks: list[Task] = []
    sources: list[Source] = []
    counts: dict[str, tuple[int, ...]] = {}
    shards: dict[str, int] = {}
    for split, group in scans.items():
        drawn = _draw(rules.validation, split, group)
        counts |= _class_counts(split, group, labels, drawn)
        num_shards = _num_shards(rules, split, sum(len(scan.labels) for scan in group))
        tasks += _plan_split(rules, split, group, num_shards, labels, drawn, len(tasks))
        of_split = [scan.as_source(split) for scan in group]
        if None not in of_split:  # else the split cannot be rebuilt, not even with some of its files
            shards[split] = num_shards
            sources += filter(None, of_split)
    return Plan(rules, tuple(tasks), tuple(sources), names, counts, shards)


def _scan(inputs: Mapping[str, Sequence[SourceFile]], workers: Workers) -> dict[str, list[_FileScan]]:
    jobs: list[tuple[SourceFile, int, int | None]] = []
    for file in itertools.chain.from_iterable(inputs.values()):
        starts = file.scan_starts()
        jobs += [(file, start, stop) for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    stretches: dict[SourceFile, list[Scan]] = {}
    for (file, _, _), scan in zip(jobs, workers.ahead(_scan_stretch, jobs), strict=True):
        stretches.setdefault(file, []).append(scan)
    return {split: [_join(file, stretches[file]) for file in group] for split, group in inputs.items()}


def _scan_stretch(job: tuple[SourceFile, int, int | None]) -> Scan:
    file, start, stop = job
    return file.scan(start, stop)


def _join(file: SourceFile, stretches: Sequence[Scan]) -> _FileScan:
    marks: list[Mark] = []
    row = 0
    for stretch in stretches:
        marks += [Mark(mark.offset, row + mark.row) for mark in stretch.marks]
        row += len(stretch.labels)
    if not row:
        raise InputError(f"{file.path}: has no rows")
    digest = hashlib.sha256(b"".join(stretch.digest for stretch in stretches)).hexdigest()
    return _FileScan(file, tuple(marks), np.concatenate([stretch.labels for stretch in stretches]), digest)


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


def _class_counts(
    split: str, group: Sequence[_FileScan], labels: Labels, drawn: np.ndarray | None
) -> dict[str, tuple[int, ...]]:
    parts: dict[str, slice | np.ndarray] = {split: slice(None)} if drawn is None else {split: ~drawn, VAL: drawn}
    if not group[0].file.has_labels:
        return dict.fromkeys(parts, ())
    classes = np.searchsorted(np.array(labels, np.int64), np.concatenate([scan.labels for scan in group]))
    return {
        name: tuple(np.bincount(classes[rows], minlength=len(labels))[: len(labels)].tolist())
        for name, rows in parts.items()
    }


def _num_shards(rules: Rules, split: str, num_rows: int) -> int:
    shards = rules.shards.get(split) if isinstance(rules.shards, Mapping) else rules.shards
    return min(num_rows, -(-num_rows * rules.layout.stride // SHARD_BYTES) if shards is None else shards)


def shard_bounds(file_rows: Sequence[int], seekable: Sequence[bool], num_shards: int) -> list[int]:
    """Row at which each shard of a split starts, and their end: even shards, or even within each file.

    A file that is not seekable is read by one task. If there are enough shards, none holds rows of two such files, so
    that their tasks are independent.
    """
    left = sum(file_rows)
    if all(seekable) or num_shards < len(file_rows):
        file_rows = [left]
    bounds, shards_left = [0], num_shards
    for files_after, rows in zip(range(len(file_rows) - 1, -1, -1), file_rows, strict=True):
        # At least one shard and one row per shard, for this file and for those after it.
        fewest, most = max(1, shards_left - (left - rows)), min(rows, shards_left - files_after)
        count = min(max(round(shards_left * rows / left), fewest), most)
        start = bounds[-1]
        bounds += [start + k * rows // count for k in range(1, count + 1)]
        left, shards_left = left - rows, shards_left - count
    return bounds


def _plan_split(
    rules: Rules,
    split: str,
    group: Sequence[_FileScan],
    num_shards: int,
    labels: Labels,
    drawn: np.ndarray | None,
    first_index: int,
) -> list[Task]:
    starts = list(itertools.accumulate((len(scan.labels) for scan in group), initial=0))
    bounds = shard_bounds([len(scan.labels) for scan in group], [scan.file.seekable for scan in group], num_shards)
    outputs = _outputs(rules.dataset, split, bounds, drawn)
    common = repr((VERSION, split, rules.image_shape, labels, [(scan.sha256, scan.as_source(split)) for scan in group]))
    edges = [place for place, row in enumerate(bounds) if _can_start(group, starts, row)]
    tasks: list[Task] = []
    for place, end in itertools.pairwise(edges):
        low, high = bounds[place], bounds[end]
        segments = _segments(group, starts, low, high)
        own_drawn = None if drawn is None else np.packbits(drawn[low:high]).tobytes()
        own_outputs = {name: tuple(itertools.chain(*shards[place:end])) for name, shards in outputs.items()}
        # What a task writes follows from these alone, so a result with this fingerprint can be kept.
        own = repr((low, high, [(segment.start, segment.stop) for segment in segments], own_drawn, own_outputs))
        task = Task(
            index=first_index + len(tasks),
            split=split,
            segments=segments,
            num_rows=high - low,
            first_row=low,
            layout=rules.layout,
            num_channels=rules.image_shape[2],
            class_labels=labels,
            drawn=own_drawn,
            outputs=own_outputs,
            fingerprint=hashlib.sha256(f"{common}{own}".encode(errors="backslashreplace")).hexdigest(),
        )
        tasks.append(task)
    return tasks


def _can_start(group: Sequence[_FileScan], starts: Sequence[int], row: int) -> bool:
    place = bisect.bisect_right(starts, row) - 1
    return row == starts[place] or group[place].file.seekable


def _outputs(
    dataset: str, split: str, bounds: Sequence[int], drawn: np.ndarray | None
) -> dict[str, list[tuple[tuple[str, int], ...]]]:
    """Per split of the result and per planned shard: its file name and records, or () if it gets none."""
    rows = np.diff(bounds)
    counts = {split: rows}
    if drawn is not None:
        num_drawn = np.diff(np.concatenate([[0], np.cumsum(drawn)])[bounds])
        counts = {split: rows - num_drawn, VAL: num_drawn}
    outputs: dict[str, list[tuple[tuple[str, int], ...]]] = {}
    for name, records in counts.items():
        # Only shards with records are numbered: a planned shard may have no row drawn for validation.
        total, place = int(np.count_nonzero(records)), itertools.count()
        outputs[name] = [
            ((shard_name(dataset, name, next(place), total), count),) if count else () for count in records.tolist()
        ]
    return outputs


def _segments(group: Sequence[_FileScan], starts: Sequence[int], low: int, high: int) -> tuple[Segment, ...]:
    segments = []
    for place in range(bisect.bisect_right(starts, low) - 1, bisect.bisect_left(starts, high)):
        scan, start = group[place], starts[place]
        stop = None if high >= starts[place + 1] else scan.mark_of_row(high - start).offset
        segments.append(Segment(scan.file, scan.mark_of_row(max(low - start, 0)), stop))
    return tuple(segments)
