"""A data set without the rows of train that the audit would drop: its shards are sources of another conversion.

The rows to drop are known only once all images are read, and a conversion plans its shards before. So it is a second,
fast conversion from shards, rather than a plan with gaps.
"""

import functools
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from pipeline.convert.config import dataset_name
from pipeline.convert.converter import write_dataset
from pipeline.convert.plan import Labels, Rules
from pipeline.convert.table import RawRows, Reader, TableFile
from pipeline.data_audit.audit import Audit
from pipeline.data_audit.duplicates import rows_to_drop
from pipeline.errors import InputError
from pipeline.format.manifest import Manifest
from pipeline.format.shards import ShardReader
from pipeline.format.text_ids import load_text_ids
from pipeline.splits import TRAIN

_READ_PAGES = 16


class KeptRows(Reader):
    """The rows of a split of a data set whose `kept` bool [n] is True."""

    has_ids = True

    def __init__(self, directory: pathlib.Path, manifest: Manifest, split: str, kept: np.ndarray) -> None:
        self.path = directory
        self.image_shape, self.class_names = manifest.image_shape, manifest.class_names
        self._manifest, self._split, self._kept = manifest, split, kept

    @property
    def has_labels(self) -> bool:
        return self._manifest.split(self._split).labelled

    def blocks(self) -> Iterator[RawRows]:
        """The rows in order, their checksums compared."""
        row, split = 0, self._manifest.split(self._split)
        texts = load_text_ids(self.path, self._manifest, self._split)
        for shard in split.shards:
            reader = ShardReader(self.path, self._manifest, split, shard)
            block = reader.page_rows * _READ_PAGES
            for first in range(0, shard.num_examples, block):
                images, labels, ids = reader.read(first, min(block, shard.num_examples - first))
                kept = self._kept[row : row + len(labels)]
                row += len(labels)
                shown = ids[kept] if texts is None else texts[ids[kept]]
                yield RawRows(images[kept], labels[kept] if self.has_labels else None, shown)

    def labels(self) -> Iterator[np.ndarray]:
        """The labels alone; -1 for each row of a split without labels."""
        for rows in self.blocks():
            yield np.full(len(rows.values), -1) if rows.labels is None else rows.labels

    def place_of(self, row: int) -> str:
        """How messages name a row."""
        return f"{self.path}, split {self._split}, row {int(np.flatnonzero(self._kept)[row])} (counted from 0)"


def write_without_duplicates(audit: Audit, out: str | os.PathLike, overwrite: bool = False) -> int:
    """Write the data set `out` without the rows that `rows_to_drop` names; returns their number.

    Raises:
        InputError: there is none, or `out` may not be written; nothing is left behind.
    """
    table, manifest = audit.table, audit.table.manifest
    dropped = rows_to_drop(table, audit.duplicates)
    if not dropped.any():
        raise InputError(f"{table.directory}: no row of train is to be dropped, so {out} was not written")
    if dropped[table.rows_of(TRAIN)].all():
        raise InputError(f"{table.directory}: every row of train would be dropped; is another split the same file?")
    classes = {name: place for place, name in enumerate(manifest.class_names)}
    inputs = {}
    for name in table.names:
        reader = KeptRows(table.directory, manifest, name, ~dropped[table.rows_of(name)])
        inputs[name] = [TableFile(reader, classes=classes)]
    of = functools.partial(_classes, manifest.class_names)
    rules = Rules(dataset_name(out), manifest.image_shape, classes=of, reading=manifest.reading)
    write_dataset(inputs, rules, out, overwrite)
    return int(dropped.sum())


def _classes(names: tuple[str, ...], _: Labels) -> tuple[Labels, tuple[str, ...]]:
    """All classes, even one without a row."""
    return tuple(range(len(names))), names
