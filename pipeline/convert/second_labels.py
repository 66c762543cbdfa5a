"""Labels in a second file: in the order of the images, or joined to them by id."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.convert.csv.layout import find_label_layout
from pipeline.convert.csv.table import CsvTable
from pipeline.convert.kinds import PICTURE_SUFFIXES
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_labels
from pipeline.convert.table import RawRows, Reader
from pipeline.errors import InputError, shorten


@dataclasses.dataclass(eq=False)
class WithLabels(Reader):
    """A reader of images whose labels are in another file.

    `labels_of_rows` are int64 or texts [rows], in the order of the images or, with `labelled_ids`, by their ids.
    `label_column` is the name of their column, if it has one.
    """

    reader: Reader
    labels_path: pathlib.Path
    labels_of_rows: np.ndarray
    labelled_ids: np.ndarray | None = None
    label_column: str | None = None
    has_labels = True

    def __post_init__(self) -> None:
        self.path, self.image_shape = self.reader.path, self.reader.image_shape
        self.is_encoded, self.columns, self.notes = self.reader.is_encoded, self.reader.columns, self.reader.notes

    @property
    def has_ids(self) -> bool:
        return self.reader.has_ids

    def blocks(self) -> Iterator[RawRows]:
        """All rows in order.

        Raises:
            InputError: there are more or fewer labels than images, or an image whose id has no label.
        """
        first = 0
        places = self._places()
        for rows in self.reader.blocks():
            stop = first + len(rows.values)
            yield rows._replace(labels=self._labels(first, stop, rows.ids, places))
            first = stop
        self._check_end(first)

    def labels(self) -> Iterator[np.ndarray]:
        """The labels alone, of which no image is decoded."""
        first, places = 0, self._places()
        for of_block in self.reader.labels() if self.labelled_ids is None else self.reader.ids():
            stop = first + len(of_block)
            yield self._labels(first, stop, of_block, places)
            first = stop
        self._check_end(first)

    def ids(self) -> Iterator[np.ndarray]:
        return self.reader.ids()

    def place_of(self, row: int) -> str:
        """How messages name a row."""
        return self.reader.place_of(row)

    def _places(self) -> dict[str, int]:
        # As texts: one file may have numbers as ids, and the other the same as texts.
        return {} if self.labelled_ids is None else {name: k for k, name in enumerate(_as_ids(self.labelled_ids))}

    def _labels(self, first: int, stop: int, ids: np.ndarray | None, places: dict[str, int]) -> np.ndarray:
        if self.labelled_ids is None or ids is None:
            if stop > len(self.labels_of_rows):
                raise InputError(
                    f"{self.labels_path}: {len(self.labels_of_rows):,} labels, but {self.path} has more rows"
                )
            return self.labels_of_rows[first:stop]
        found = [places.get(name, -1) for name in _as_ids(ids)]
        if -1 in found:
            row = found.index(-1)
            raise InputError(
                f"{self.place_of(first + row)}: no label for id {shorten(str(ids[row]))} in {self.labels_path}; "
                "add it, or remove the image"
            )
        return self.labels_of_rows[np.array(found, np.intp)]

    def _check_end(self, num_rows: int) -> None:
        if self.labelled_ids is None and num_rows < len(self.labels_of_rows):
            raise self._count_error(f"{num_rows:,} rows")

    def _count_error(self, rows: str) -> InputError:
        return InputError(f"{self.labels_path}: {len(self.labels_of_rows):,} labels, but {self.path} has {rows}")


def add_labels(reader: Reader, path: pathlib.Path, options: ReadOptions) -> tuple[WithLabels, str]:
    """The reader with the labels of a file, and a line that says how they were joined.

    Raises:
        InputError: the images have labels already, or the file's column of labels is unknown or not readable.
    """
    if reader.has_labels:
        advice = "omit --labels"
        if isinstance(reader, CsvTable) and reader.layout.columns.label is not None:
            advice = f"ignore them with --drop-column {reader.layout.columns.option(reader.layout.columns.label)}"
        raise InputError(f"{reader.path}: has labels itself, beside those of {path}; {advice}")
    arrays = find_labels(path)
    if arrays is not None:
        labels = _concatenate(list(arrays), path)
        return WithLabels(reader, path, labels), f"{reader.path}: labels are those of {path}, in the order of its rows"
    table = CsvTable(path, find_label_layout(path, options), options)
    labels = _concatenate(list(table.labels()), path)
    ids = None
    if table.has_ids and reader.has_ids:
        ids = _concatenate([rows.ids for rows in table.blocks() if rows.ids is not None], path)
        if len(set(_as_ids(ids))) < len(ids):
            raise InputError(f"{path}: an id has two labels; remove one, or join by order with --id-column none")
    how = "in the order of its rows" if ids is None else "by id"
    columns = table.layout.columns
    joined = WithLabels(reader, path, labels, ids, columns.key(columns.label))
    return joined, f"{reader.path}: labels are those of {path}, {how}"


def _as_ids(ids: np.ndarray) -> Sequence[str]:
    return without_suffixes(list(map(str, ids.tolist())))


def without_suffixes(texts: Sequence[str]) -> Sequence[str]:
    """Ids, those of images' files without folder and suffix, as a folder of images has them."""
    are_files = all(text.lower().endswith(PICTURE_SUFFIXES) for text in texts)
    return [pathlib.PurePath(text).stem for text in texts] if are_files else texts


def _concatenate(parts: list[np.ndarray], path: pathlib.Path) -> np.ndarray:
    if not parts:
        raise InputError(f"{path}: has no rows")
    return np.concatenate(parts)
