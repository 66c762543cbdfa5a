"""One reading of all CSVs of a conversion, which can go on where a killed one was."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv_source import CsvSource
from pipeline.convert.journal import Journal, JournalWriter, Stale, identity_of
from pipeline.convert.part import Part, Target
from pipeline.convert.position import Position, Start, verify
from pipeline.convert.split_rows import SplitRows
from pipeline.errors import InputError
from pipeline.format.manifest import Manifest, Source, Split, Validation
from pipeline.format.records import UNLABELLED
from pipeline.splits import TRAIN


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a conversion is; `bytes_read` of `num_bytes` on disk. A second pass starts again at 0."""

    bytes_read: int
    num_bytes: int
    num_rows: int


@dataclasses.dataclass(frozen=True)
class Job:
    """What both passes share; `inputs` maps a split's name to its files."""

    config: ConvertConfig
    inputs: dict[str, list[CsvSource]]
    target: Target
    pool: Executor
    journal: JournalWriter
    on_progress: Callable[[Progress], None] | None

    @property
    def files(self) -> list[CsvSource]:
        """All files, in the order of reading."""
        return [source for group in self.inputs.values() for source in group]

    @property
    def identity(self) -> dict:
        """What must be the same for going on from a journal, whose hashes prove what the files hold."""
        config = self.config
        return identity_of(
            files=[(name, file.path.name, file.num_bytes) for name, group in self.inputs.items() for file in group],
            shards=config.shards,
            seed=config.seed,
            val_fraction=config.val_fraction,
            val_group_size=config.val_group_size,
            image_shape=self.target.image_shape,
            has_header=config.has_header,
            label_column=config.label_column,
            id_column=config.id_column,
            name=config.name,
        )


class Pass:
    """A reading; `class_labels` maps labels to class indices, None takes them as they are. Close it, also after errors.

    A second pass knows from `first_pass` what the first one read.
    """

    def __init__(self, job: Job, class_labels: tuple[int, ...] | None = None, first_pass: tuple[Source, ...] = ()):
        self.rows_read = 0
        self.sources: list[Source] = []
        self._job = job
        self._class_labels = class_labels
        self._first_pass = first_pass
        self._starts: list[Start] = []
        self._positions: list[Position] = []
        self._rows: dict[str, SplitRows] = {}
        self._splits: list[Split] = []

    def take_up(self, journal: Journal) -> None:
        """Go on from a journal.

        Raises:
            Stale: a file or a shard is not what it was.
        """
        for source, position in zip(self._job.files, journal.sources, strict=False):
            start = verify(source.path, position)
            if start is None:
                raise Stale(f"{source.path} is not the file that it read")
            self._starts.append(start)
        for name in self._job.inputs:
            if name in journal.splits:
                self._rows_of(name).take_up(journal.splits)
        self.rows_read = sum(position.num_rows for position in journal.sources)

    def run(self) -> None:
        """Read all files, or what is left of them.

        Raises:
            InputError: something is wrong with a file, or a second pass read other bytes than the first.
        """
        for name, group in self._job.inputs.items():
            rows = self._rows_of(name)
            for source in group:
                self._read_file(name, source, rows)
            self._splits += rows.finish([source.num_rows for source in self.sources[-len(group) :]])
        if self._first_pass and tuple(self.sources) != self._first_pass:
            raise InputError(f"{self._job.files[0].path}: the files changed while they were read; convert again")

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for rows in self._rows.values():
                stack.callback(rows.close)

    @property
    def labels(self) -> list[int]:
        """All labels of all splits, in ascending order."""
        return sorted(set().union(*(part.label_counts for part in self._parts)) - {UNLABELLED})

    @property
    def needs_mapping(self) -> bool:
        """Whether labels turned out to be no class indices, which another pass mends."""
        return self._class_labels is None and self.labels != list(range(len(self.labels)))

    @property
    def files(self) -> list[pathlib.Path]:
        """What of the directory belongs to this pass."""
        return [self._job.journal.path, *(path for part in self._parts for path in part.paths)]

    def journal(self, *current: Position) -> Journal:
        """How far this pass is; `current` is the place in the file that is being read."""
        marks = {part.name: part.mark() for part in self._parts}
        positions = (*self._positions, *current)
        return Journal(self._job.identity, self._class_labels, self._first_pass, positions, marks)

    def publish(self) -> Manifest:
        """Give the shards their names; the manifest."""
        if self._job.journal.kept:  # a kill meanwhile leaves them under both kinds of names, which only this one knows
            self._job.journal.write(self.journal())
            self._job.journal.wait()
        for part, split in zip(self._parts, self._splits, strict=True):
            part.publish(split)
        return self._manifest()

    @property
    def _parts(self) -> list[Part]:
        return [part for rows in self._rows.values() for part in rows.parts]

    def _rows_of(self, name: str) -> SplitRows:
        if name not in self._rows:
            job = self._job
            with_stats = name == (TRAIN if TRAIN in job.inputs else next(iter(job.inputs)))
            labels = None if self._class_labels is None else np.array(self._class_labels)
            group = job.inputs[name]
            self._rows[name] = SplitRows(job.config, name, group, job.target, job.pool, labels, with_stats)
        return self._rows[name]

    def _read_file(self, name: str, source: CsvSource, rows: SplitRows) -> None:
        start = self._starts.pop(0) if self._starts else None
        rows.begin_file(start.position.num_rows if start else 0)
        if start is not None and start.position.finished:
            position = start.position
        else:
            self._read_rows(source, rows, start)
            position = source.position()
        self._positions.append(position)
        self.sources.append(source.as_read(name, position.num_rows, position.sha256))

    def _read_rows(self, source: CsvSource, rows: SplitRows, start: Start | None) -> None:
        read = start.position.offset if start else 0
        with contextlib.closing(source.read_rows(self._job.pool, start)) as blocks:
            for block in blocks:
                rows.add(block)
                self._report(source, len(block.images))
                if self._job.journal.is_due(source.offset - read):
                    journal = self.journal(source.position())
                    self._job.journal.write(journal, [path for part in rows.parts for path in part.unsynced()])
                read = source.offset

    def _report(self, source: CsvSource, num_rows: int) -> None:
        self.rows_read += num_rows
        if self._job.on_progress:
            files = self._job.files
            done = sum(file.num_bytes for file in files[: len(self.sources)])
            total = sum(file.num_bytes for file in files)
            self._job.on_progress(Progress(done + source.bytes_read, total, self.rows_read))

    def _manifest(self) -> Manifest:
        labels, config, splits = self.labels, self._job.config, {}
        for part, split in zip(self._parts, self._splits, strict=True):
            labelled = UNLABELLED not in part.label_counts
            counts = tuple(part.label_counts[label] for label in labels) if labelled else ()
            splits[split.name] = dataclasses.replace(split, class_counts=counts)
        stats = next(part.stats for part in self._parts if part.stats is not None)
        validation = Validation()
        if config.val_fraction:
            validation = Validation(config.val_fraction, config.val_group_size, TRAIN, config.seed)
        return Manifest(
            name=config.name,
            image_shape=self._job.target.image_shape,
            class_names=tuple(map(str, labels)),
            splits=splits,
            sources=tuple(self.sources),
            validation=validation,
            pixel_mean=stats.mean,
            pixel_std=stats.std,
            stride=self._job.target.layout.stride,
        )
