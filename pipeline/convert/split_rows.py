"""The rows of one split of CSVs, sent where they belong: to the split itself, or to the validation taken out of it."""

import contextlib
from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np

from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv_parser import Rows
from pipeline.convert.csv_source import CsvSource, ids_or_numbers, labels_or_unlabelled
from pipeline.convert.ids import IdCheck
from pipeline.convert.journal import Mark
from pipeline.convert.part import Part, Target
from pipeline.convert.sources import duplicate_error, read_ids
from pipeline.errors import InputError
from pipeline.format.manifest import Split
from pipeline.splits import TRAIN, VAL


class SplitRows:
    """A split under way; `with_stats` sums its pixels. Close it, also after an error."""

    def __init__(
        self,
        config: ConvertConfig,
        name: str,
        group: list[CsvSource],
        target: Target,
        pool: Executor,
        class_labels: np.ndarray | None,
        with_stats: bool,
    ):
        self.num_rows = 0
        self.parts = [Part(name, target, pool, class_labels, with_stats)]
        self._config = config
        self._group = group
        self._pool = pool
        self._place = 0
        self._sampler = config.sampler() if name == TRAIN else None
        if self._sampler:
            self.parts.append(Part(VAL, target, pool, class_labels, with_stats=False))
        self._ids = IdCheck() if group[0].columns.id is not None else None
        self._ids_in_order = True

    def take_up(self, marks: Mapping[str, Mark]) -> None:
        """Go on from what an earlier process wrote.

        Raises:
            Stale: it is not what the marks say.
        """
        # Which of two parts a row went to is not written down, so ids of both come one part after the other.
        self._ids_in_order = len(self.parts) == 1
        for part in self.parts:
            for ids in part.take_up(marks[part.name]):
                if self._ids:
                    self._ids.add(ids)
            if self._sampler:
                self._sampler.skip(part.label_counts)

    def begin_file(self, rows_done: int = 0) -> None:
        """Rows of the next file follow; an earlier process has already sent so many."""
        # A group ends with its file: rows of two files are not one writer's because their counts say so.
        size = self._config.val_group_size or 1
        self._place = -(-self._place // size) * size + rows_done
        self.num_rows += rows_done

    def add(self, rows: Rows) -> None:
        """Send the next rows."""
        count = len(rows.images)
        labels, ids = labels_or_unlabelled(rows), ids_or_numbers(rows, self.num_rows)
        if self._ids:
            self._ids.add(ids)
        masks = [np.ones(count, bool)]
        if self._sampler:
            drawn = self._sampler.select(labels, self._place)
            masks = [~drawn, drawn]
        for part, mask in zip(self.parts, masks, strict=True):
            part.add(rows.images, labels, ids, np.flatnonzero(mask))
        self.num_rows += count
        self._place += count

    def finish(self, file_rows: list[int]) -> list[Split]:
        """The splits, all of them on the disk; `file_rows` counts the rows of each file.

        Raises:
            InputError: an id stands on two rows, or a split has no row.
        """
        if self._ids and self._ids.first_duplicate():
            ids = self._ids if self._ids_in_order else read_ids(self._group, self._pool)
            raise duplicate_error(ids, self._group, file_rows)
        for part in self.parts:
            if part.num_rows == 0:
                raise InputError(
                    f"--val-fraction {self._config.val_fraction}: no row is left for {part.name!r} out of "
                    f"{self.num_rows}; choose another fraction or group size"
                )
        return [part.finish() for part in self.parts]

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for part in self.parts:
                stack.callback(part.close)
