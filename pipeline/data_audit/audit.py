"""The audit of a data set: a line per question for people, and a CSV of the rows concerned."""

import csv
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.data_audit.drift import ClassDrift, IntensityDrift, class_drift, intensity_drift
from pipeline.data_audit.duplicates import Duplicates, find_duplicates
from pipeline.data_audit.near import find_near
from pipeline.data_audit.perceptual import NearPairs
from pipeline.data_audit.scan import RowTable, scan_rows
from pipeline.errors import InputError, pluralize
from pipeline.files import replacing
from pipeline.format.manifest import Manifest
from pipeline.format.records import UNLABELLED
from pipeline.format.text_ids import original_ids
from pipeline.remote import as_path
from pipeline.splits import TRAIN

HEADER = ("finding", "group", "split", "id", "row", "label", "note")


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found; the drifts are of every other split against the split `base`.

    `near` is None unless it was asked for. `drifts` have no classes for splits without labels.
    """

    table: RowTable
    base: str
    duplicates: Duplicates
    near: NearPairs | None
    classes: dict[str, ClassDrift]
    intensity: dict[str, IntensityDrift]

    def lines(self) -> list[str]:
        """A line per question."""
        names = self.table.manifest.class_names
        lines = [f"duplicates: {self._duplicates_text()}"]
        if self.near is not None:
            lines.append(f"near-duplicates: {self._near_text()}")
        if names:
            count = int(self.duplicates.two_labels.sum())
            verb = "has" if count == 1 else "have"
            text = "no image has two labels" if not count else f"{pluralize(count, 'image')} {verb} two labels or more"
            lines.append(f"labels: {text}")
        if self.classes:
            texts = [drift.describe(name, self.base, names) for name, drift in self.classes.items()]
            lines.append(f"classes: {'; '.join(texts)}")
        if self.intensity:
            texts = [drift.describe(name, self.base) for name, drift in self.intensity.items()]
            lines.append(f"intensity: {'; '.join(texts)}")
        return lines

    def check_leaks(self) -> None:
        """Raise InputError if two splits have an image in common; it names the first."""
        found = self.duplicates
        leaks = np.flatnonzero((found.counts > 0).sum(axis=1) > 1)
        if not len(leaks):
            return
        rows = found.rows[found.groups == leaks[0]]
        splits = self.table.split_of(rows)
        first, second = rows[0], rows[splits != splits[0]][0]
        (here, one), (there, other) = (self._name(row) for row in (first, second))
        pairs = "; ".join(self._shared_texts())
        raise InputError(
            f"{pairs}; the first is id {one} of {here}, which is id {other} of {there}; convert without "
            "--refuse-leaks, then: python tools/inspect_tfrecord.py audit DIR --details FILE --drop-duplicates OUT"
        )

    def write_details(self, path: str | os.PathLike) -> int:
        """Write a CSV with a line for each row concerned; returns the number of lines.

        Columns: finding (duplicate, leak, two labels, near-duplicate), group (rows of one image), split, id, row in the
        split, label, note.
        """
        lines = list(self._details())
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
        return len(lines)

    def _duplicates_text(self) -> str:
        found, names = self.duplicates, self.table.names
        repeated = [(name, found.repeated(place)) for place, name in enumerate(names)]
        within = [f"{_rows(count)} of {name} {_verb(count, 'repeat')} another" for name, count in repeated if count]
        shared = self._shared_texts()
        if not shared and len(names) > 1:
            shared = [f"{' and '.join([', '.join(names[:-1]), names[-1]])} share none"]
        if not within:
            return "; ".join(
                ["no image occurs twice in a split" if len(names) > 1 else "no image occurs twice", *shared]
            )
        return "; ".join([*within, *shared])

    def _shared_texts(self) -> list[str]:
        names, texts = self.table.names, []
        for other in range(len(names)):
            for split in range(other + 1, len(names)):
                if count := self.duplicates.shared(split, other):
                    texts.append(f"{_rows(count)} of {names[split]} {_verb(count, 'occur')} in {names[other]} too")
        return texts

    def _near_text(self) -> str:
        assert self.near is not None
        splits = self.table.split_of(self.near.others)
        counts = [(name, int((splits == place).sum())) for place, name in enumerate(self.table.names)]
        texts = [f"{_rows(count)} of {name} nearly {_verb(count, 'equal')} one" for name, count in counts if count]
        return (
            f"{'; '.join(texts)} of {self.base}"
            if texts
            else f"no row of another split nearly equals one of {self.base}"
        )

    def _details(self) -> Iterator[tuple]:
        found = self.duplicates
        spans = (found.counts > 0).sum(axis=1) > 1
        for group, line in zip(found.groups, self._columns(found.rows), strict=True):
            finding = "two labels" if found.two_labels[group] else "leak" if spans[group] else "duplicate"
            yield finding, int(group), *line, f"{int(found.counts[group].sum())} rows of {self._splits_of(group)}"
        if self.near is None:
            return
        first = len(found.counts)
        rows = np.stack([self.near.others, self.near.base], axis=1).reshape(-1)
        notes = [
            f"{bits} of 64 bits differ, correlation {value:.4f}"
            for bits, value in zip(self.near.distances.tolist(), self.near.correlations.tolist(), strict=True)
        ]
        for place, line in enumerate(self._columns(rows)):
            yield "near-duplicate", first + place // 2, *line, notes[place // 2]

    def _splits_of(self, group: int) -> str:
        return " and ".join(
            name for name, count in zip(self.table.names, self.duplicates.counts[group], strict=True) if count
        )

    def _columns(self, rows: np.ndarray) -> Sequence[tuple]:
        """(split, id, row in the split, label) of each row, int [m]."""
        table, places = self.table, self.table.split_of(rows)
        ids = np.empty(len(rows), object)
        for place, name in enumerate(table.names):
            chosen = places == place
            if chosen.any():
                ids[chosen] = original_ids(table.directory, table.manifest, name, table.ids[rows[chosen]]).tolist()
        names = [*table.manifest.class_names, ""]  # label -1 takes the last
        labels = [names[label] if label != UNLABELLED else "" for label in table.labels[rows].tolist()]
        splits = [table.names[place] for place in places.tolist()]
        return list(zip(splits, ids.tolist(), (rows - table.starts[places]).tolist(), labels, strict=True))

    def _name(self, row: int) -> tuple[str, object]:
        split, row_id, _, _ = self._columns(np.array([row]))[0]
        return split, row_id


def audit(directory: str | os.PathLike, manifest: Manifest, near_duplicates: bool = False) -> Audit:
    """Read all rows of a data set once, and some again to compare them.

    It keeps 36 bytes per row; with `near_duplicates`, 128 more.

    Raises:
        InputError: a shard is missing or corrupt.
    """
    table = scan_rows(as_path(directory), manifest, near_duplicates)
    base = TRAIN if TRAIN in table.names else table.names[0]
    counts = {name: np.array(split.class_counts) for name, split in manifest.splits.items() if split.labelled}
    others = [name for name in table.names if name != base]
    intensity = {name: table.intensity[table.rows_of(name)] for name in table.names}
    sampled = {name: values[~np.isnan(values[:, 0])] for name, values in intensity.items()}
    return Audit(
        table=table,
        base=base,
        duplicates=find_duplicates(table),
        near=find_near(table, base) if near_duplicates else None,
        classes={name: class_drift(counts[name], counts[base]) for name in others if name in counts and base in counts},
        intensity={name: intensity_drift(sampled[name], sampled[base]) for name in others},
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb
