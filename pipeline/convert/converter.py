"""CSV to a data set: shards, manifest and TFDS metadata, in one streaming pass.

The main thread reads, keeps the order and writes; a small pool parses and encodes, which NumPy does outside Python's
lock. Labels are taken for class indices on the way; where they turn out to have a gap or not to start at 0, the pass is
made again with the mapping known.
"""

import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from pipeline.convert import manifest as manifest_lib
from pipeline.convert.columns import infer_image_shape
from pipeline.convert.config import TRAIN, VAL, ConvertConfig
from pipeline.convert.csv_parser import Rows
from pipeline.convert.csv_source import NUM_THREADS, CsvSource, ids_or_numbers, labels_or_unlabelled
from pipeline.convert.ids import IdCheck
from pipeline.convert.manifest import MAX_CLASSES, Manifest, Source, Split, Validation
from pipeline.convert.output_dir import new_directory, write_file
from pipeline.convert.pixel_stats import PixelStats
from pipeline.convert.schema import IMAGE, UNLABELLED, RecordLayout
from pipeline.convert.shard_writer import SplitWriter, deal_rows, encode_by_shard
from pipeline.convert.sources import open_sources
from pipeline.convert.tfds_metadata import metadata_files
from pipeline.errors import InputError

__all__ = ["ConvertConfig", "Progress", "convert"]

_ENCODES_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a conversion is; `bytes_read` of `num_bytes` on disk. A second pass starts again at 0."""

    bytes_read: int
    num_bytes: int
    num_rows: int


def convert(config: ConvertConfig, on_progress: Callable[[Progress], None] | None = None) -> Manifest:
    """Convert CSVs into `config.out` and return its manifest.

    The directory appears when everything in it is complete and on the disk, or not at all.

    Raises:
        InputError: anything wrong with the files or with the output directory; the message names the place.
    """
    sources = open_sources(config)
    every = [source for group in sources.values() for source in group]
    shape = infer_image_shape(every[0].first_line, every[0].columns.num_pixels, config.image_shape)
    with new_directory(config.out, config.overwrite) as directory, ThreadPoolExecutor(NUM_THREADS) as pool:
        result = _Pass(config, sources, shape, directory, pool, on_progress).run()
        labels = result.labels
        if labels != list(range(len(labels))):
            for path in directory.iterdir():
                path.unlink()
            before = result.sources
            result = _Pass(config, sources, shape, directory, pool, on_progress, np.array(labels)).run()
            if result.sources != before:
                raise InputError(f"{every[0].path}: the files changed while they were read; convert again")
        manifest = result.manifest(labels)
        for name, text in metadata_files(manifest).items():
            write_file(directory / name, text)
        write_file(directory / manifest_lib.FILE_NAME, manifest.to_json())
    return manifest


class _Part:
    """A split being written: its rows are encoded by the pool and written in order."""

    def __init__(self, conversion: "_Pass", name: str, with_stats: bool):
        self.name = name
        self.num_rows = 0
        self.label_counts: collections.Counter = collections.Counter()
        self.stats = PixelStats(conversion.shape[2]) if with_stats else None
        self._conversion = conversion
        self._writer = SplitWriter(conversion.directory, name, conversion.config.shards)
        self._pending: collections.deque[tuple[Future, list]] = collections.deque()

    def add(self, images: np.ndarray, labels: np.ndarray, ids: np.ndarray, chosen: np.ndarray) -> None:
        """Take the rows with indices `chosen`, int64 [m], of a block."""
        if len(chosen) == 0:
            return
        self.label_counts.update(labels[chosen].tolist())
        if len(self.label_counts) > MAX_CLASSES:
            raise InputError(f"split {self.name!r}: over {MAX_CLASSES:,} different labels; is that column the label?")
        deal = deal_rows(self.num_rows, len(chosen), self._conversion.config.shards)
        future = self._conversion.pool.submit(self._encode, images, labels, ids, chosen, deal)
        self._pending.append((future, deal))
        self.num_rows += len(chosen)
        if len(self._pending) > _ENCODES_AHEAD:
            self._write_next()

    def _encode(self, images, labels, ids, chosen, deal) -> tuple[np.ndarray, PixelStats | None]:
        classes = self._conversion.class_indices(labels)
        records = encode_by_shard(self._conversion.layout, images, classes, ids, chosen, deal)
        if self.stats is None:
            return records, None
        # The sums do not depend on the order, and what was just written is in the cache.
        written = records[:, self._conversion.layout.slices[IMAGE]]
        return records, PixelStats.of(written, self._conversion.shape[2])

    def _write_next(self) -> None:
        future, deal = self._pending.popleft()
        records, stats = future.result()
        if stats is not None:
            self.stats.merge(stats)
        self._writer.append(records, deal)

    def finish(self) -> Split:
        while self._pending:
            self._write_next()
        shards = self._writer.finish(self._conversion.config.name, self._conversion.layout.stride)
        return Split(self.name, self.num_rows, (), shards)

    def close(self) -> None:
        for future, _ in self._pending:
            future.cancel()
        self._writer.close()


class _Pass:
    """One reading of all files; `class_labels` maps labels to class indices, None takes them as they are."""

    def __init__(
        self,
        config: ConvertConfig,
        sources: dict[str, list[CsvSource]],
        shape: tuple[int, int, int],
        directory: pathlib.Path,
        pool: ThreadPoolExecutor,
        on_progress: Callable[[Progress], None] | None,
        class_labels: np.ndarray | None = None,
    ):
        self.config = config
        self.shape = shape
        self.layout = RecordLayout(shape[0] * shape[1] * shape[2])
        self.directory = directory
        self.pool = pool
        self.sources: list[Source] = []
        self._inputs = sources
        self._class_labels = class_labels
        self._on_progress = on_progress
        self._rows_read = 0
        self._parts: list[tuple[_Part, Split]] = []

    def run(self) -> "_Pass":
        for name, group in self._inputs.items():
            self._convert_split(name, group)
        return self

    @property
    def labels(self) -> list[int]:
        """All labels of all splits, in ascending order."""
        return sorted(set().union(*(part.label_counts for part, _ in self._parts)) - {UNLABELLED})

    def class_indices(self, labels: np.ndarray) -> np.ndarray:
        """int64 [n]: class of each label; UNLABELLED stays."""
        if self._class_labels is None:
            return labels
        return np.where(labels == UNLABELLED, UNLABELLED, np.searchsorted(self._class_labels, labels))

    def manifest(self, labels: list[int]) -> Manifest:
        """The manifest, for the sorted list of all labels."""
        splits = {}
        for part, split in self._parts:
            labelled = UNLABELLED not in part.label_counts
            counts = tuple(part.label_counts[label] for label in labels) if labelled else ()
            splits[split.name] = dataclasses.replace(split, class_counts=counts)
        stats = next(part.stats for part, _ in self._parts if part.stats is not None)
        config = self.config
        validation = Validation()
        if config.val_fraction:
            validation = Validation(config.val_fraction, config.val_group_size, TRAIN, config.seed)
        return Manifest(
            name=config.name,
            image_shape=self.shape,
            class_names=tuple(map(str, labels)),
            splits=splits,
            sources=tuple(self.sources),
            validation=validation,
            pixel_mean=stats.mean,
            pixel_std=stats.std,
            stride=self.layout.stride,
        )

    def _convert_split(self, name: str, group: list[CsvSource]) -> None:
        sampler = self.config.sampler() if name == TRAIN else None
        of_stats = TRAIN if TRAIN in self._inputs else next(iter(self._inputs))
        parts = [_Part(self, name, with_stats=name == of_stats)]
        if sampler:
            parts.append(_Part(self, VAL, with_stats=False))
        checks = IdCheck() if group[0].columns.id is not None else None
        row = place = 0
        with contextlib.ExitStack() as stack:
            for part in parts:
                stack.callback(part.close)
            for source in group:
                first_row = row
                # A group ends with its file: rows of two files are not one writer's because their counts say so.
                place = -(-place // (self.config.val_group_size or 1)) * (self.config.val_group_size or 1)
                with contextlib.closing(source.read_rows(self.pool)) as blocks:
                    for rows in blocks:
                        self._add(rows, row, place, parts, sampler, checks)
                        row += len(rows.images)
                        place += len(rows.images)
                        self._report(source, len(rows.images))
                self.sources.append(source.as_read(name, row - first_row))
            if checks:
                _refuse_duplicate(checks, group, self.sources[-len(group) :])
            for part in parts:
                if part.num_rows == 0:
                    raise InputError(
                        f"--val-fraction {self.config.val_fraction}: no row is left for {part.name!r} out of {row}; "
                        f"choose another fraction or group size"
                    )
                self._parts.append((part, part.finish()))

    def _add(self, rows: Rows, first_row: int, place: int, parts: list[_Part], sampler, checks: IdCheck | None) -> None:
        count = len(rows.images)
        labels, ids = labels_or_unlabelled(rows), ids_or_numbers(rows, first_row)
        if checks:
            checks.add(ids)
        if sampler is None:
            parts[0].add(rows.images, labels, ids, np.arange(count))
            return
        drawn = sampler.select(labels, place)
        for part, mask in zip(parts, (~drawn, drawn), strict=True):
            part.add(rows.images, labels, ids, np.flatnonzero(mask))

    def _report(self, source: CsvSource, num_rows: int) -> None:
        self._rows_read += num_rows
        if self._on_progress:
            every = [each for group in self._inputs.values() for each in group]
            done = sum(each.num_bytes for each in every[: len(self.sources)])
            total = sum(each.num_bytes for each in every)
            self._on_progress(Progress(done + source.bytes_read, total, self._rows_read))


def _refuse_duplicate(checks: IdCheck, group: list[CsvSource], read: list[Source]) -> None:
    found = checks.first_duplicate()
    if found is None:
        return
    value, *rows = found
    places = []
    for row in rows:
        for source, counted in zip(group, read, strict=True):
            if row < counted.num_rows:
                column = source.columns.describe(source.columns.id)
                places.append((source.path, source.line_of_row(row), column))
                break
            row -= counted.num_rows
    (first_path, first_line, _), (path, line, column) = places
    raise InputError(
        f"{path}, line {line}: {column}: id {value} is a duplicate, it stands on line {first_line} of {first_path} too"
    )
