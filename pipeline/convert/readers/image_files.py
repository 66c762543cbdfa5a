"""Image files one after another, and folders of them, by class or not."""

import copy
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.convert.kinds import PICTURE_SUFFIXES
from pipeline.convert.pixels import Shape
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.column_reader import Block, ColumnReader
from pipeline.convert.readers.labels import from_texts
from pipeline.convert.readers.pictures import gray_notes, read_picture, read_pictures
from pipeline.errors import InputError, list_few
from pipeline.format.records import ID, LABEL
from pipeline.splits import TRAIN

_BLOCK_BYTES = 8 << 20  # of pixels in a block
_DATA_SUFFIXES = (".csv", ".tsv", ".parquet", ".npz", ".npy", "-ubyte", ".gz", ".zip", ".bz2", ".xz", ".zst")
_TFRECORD = re.compile(r"\.tfrec|-\d{5}-of-\d{5}$")
_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


class ImageFiles(ColumnReader):
    """Image files in order, with labels and ids if given.

    Args:
        path: the folder or CSV, for messages.
        files: the images, as paths.
        labels: names of classes, or texts of whole numbers; one per file.
        ids: one per file.
        options: `image_size` and `channels` change images; without them all have the shape of the first.
        lines: of the CSV, one per file.
        splits: names of the files' splits, by the name of their column.
        notes: what to report.

    Raises:
        InputError: there is no file, or the first is not an image.
    """

    image_shape: Shape
    is_encoded = True
    label_advice = "put images into a folder per class, give a CSV of their names and labels"

    def __init__(
        self,
        path: pathlib.Path,
        files: Sequence[str],
        labels: Sequence[str] | None,
        ids: Sequence[str] | None,
        options: ReadOptions,
        lines: Sequence[int] | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._splits = splits or {}
        self.path, self._files, self._lines, self._options = path, tuple(files), lines, options
        given = {LABEL: labels, ID: ids}
        self._columns = {name: from_texts(texts, name == ID) for name, texts in given.items() if texts is not None}
        self._label, self._id = (name if name in self._columns else None for name in given)
        first = read_picture(*self._picture(0), options)
        height, width, channels = first.shape
        self.image_shape = height, width, channels
        self.notes = notes + gray_notes(first, options)
        self._rows_per_block = max(1, _BLOCK_BYTES // first.size)
        # It tells whether files changed since an interrupted conversion.
        self._fingerprint = hashlib.sha256(repr([_state(file) for file in self._files]).encode()).hexdigest()

    def values_of(self, column: str) -> list[str] | None:
        """The different values of the column of splits; None if the files have no such column."""
        return list(dict.fromkeys(self._splits[column])) if column in self._splits else None

    def rows_with(self, column: str, values: Sequence[str]) -> "ImageFiles":
        """The files that have one of these values in the column of splits."""
        rows = [row for row, value in enumerate(self._splits[column]) if value in values]
        part = copy.copy(self)
        part._splits = {}
        part._files = tuple(self._files[row] for row in rows)
        part._lines = None if self._lines is None else [self._lines[row] for row in rows]
        part._columns = {name: column[rows] for name, column in self._columns.items()}
        return part

    def place_of(self, row: int) -> str:
        """How messages name an image: by its file and, in a CSV, the line."""
        if self._lines is None:
            return self._files[row]
        return f"{self.path}, line {self._lines[row]}: {self._files[row]}"

    def _num_rows(self) -> int:
        return len(self._files)

    def _read(self, _names: list[str]) -> Iterator[range]:
        for start in range(0, len(self._files), self._rows_per_block):
            yield range(start, min(start + self._rows_per_block, len(self._files)))

    def _column(self, block: Block, name: str) -> np.ndarray:
        return self._columns[name][block.rows.start : block.rows.stop]

    def _values(self, block: Block) -> np.ndarray:
        return read_pictures(map(self._picture, block.rows), self.image_shape, self._files[0], self._options)

    def _picture(self, row: int) -> tuple[str, pathlib.Path]:
        return self.place_of(row), pathlib.Path(self._files[row])


def _state(file: str) -> tuple:
    try:
        status = pathlib.Path(file).stat()
    except OSError:
        return (file,)  # reading it will say why
    return file, status.st_size, status.st_mtime_ns


def open_folder(path: pathlib.Path, options: ReadOptions) -> ImageFiles:
    """A reader of FOLDER/CLASS/NAME.png or, as a split without labels, FOLDER/NAME.png, whose ids are the names.

    Raises:
        InputError: the folder has no images, or both images and folders of images.
    """
    with os.scandir(path) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    folders = [entry.name for entry in visible if entry.is_dir()]
    others = [entry.name for entry in visible if entry.is_file()]
    flat = images_of(others)
    classes = {name: files for name in folders if (files := images_of(_names_in(path / name)))}
    _check_folder(path, folders, others, flat, classes)
    if flat:
        stems = [pathlib.Path(name).stem for name in flat]
        return ImageFiles(path, [str(path / name) for name in flat], None, stems, options)
    pairs = [(name, file) for name, files in classes.items() for file in files]
    files = [str(path / name / file) for name, file in pairs]
    return ImageFiles(path, files, [name for name, _ in pairs], None, options)


def _names_in(path: pathlib.Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def images_of(names: Sequence[str]) -> list[str]:
    """Those of some file names that are images', in order: numbers by value, so 2.png comes before 10.png."""
    chosen = [name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")]
    return sorted(chosen, key=_natural)


def _natural(name: str) -> tuple[list, str]:
    parts: list[str | int] = re.split(r"(\d+)", name)  # digits are every second part
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _check_folder(
    path: pathlib.Path,
    folders: Sequence[str],
    others: Sequence[str],
    flat: Sequence[str],
    classes: Mapping[str, Sequence[str]],
) -> None:
    """Refuse a folder that is not images, or folders of images by class, and say what to give instead."""
    if flat and classes:
        raise InputError(
            f"{path}: has images beside folders of images ({list_few(list(classes), 3)}); give one of the folders, or "
            "put each image into its class's folder"
        )
    if classes and {name.lower() for name in classes} <= _SPLITS:
        named = sorted((name for name in folders if name.lower() in _SPLITS), key=lambda name: (name != TRAIN, name))
        given = " ".join(f"--split {name}={path / name}" for name in named)
        raise InputError(f"{path}: its folders are named like splits, not classes; give {given}")
    tables = [name for name in others if name.lower().endswith((".csv", ".tsv"))]
    if len(classes) == 1 and tables:
        raise InputError(f"{path}: a CSV beside one folder of images; give the CSV, {path / tables[0]}")
    if not flat and not classes:
        raise InputError(f"{path}: {_describe(path, folders, others)}")


def _describe(path: pathlib.Path, folders: Sequence[str], others: Sequence[str]) -> str:
    """What a folder without images holds, and what to give."""
    for name in sorted(folders, key=lambda name: name.lower() not in (TRAIN, "training")):
        if any(images_of(_names_in(sub)) for sub in (path / name).iterdir() if sub.is_dir()):
            given = f"--split {name}={path / name}" if name.lower() in _SPLITS else f"such as {path / name}"
            return f"its folders ({list_few(folders, 5)}) hold folders of images; give one, {given}"
    if any(_TFRECORD.search(name) for name in others):
        return "TFRecords; import them with tools/import_tfrecord.py"
    ordered = sorted(others, key=lambda name: TRAIN not in name.lower())
    data = next((name for name in ordered if name.lower().endswith(_DATA_SUFFIXES)), None)
    if data is not None:
        return f"a folder without images; give one of its files, such as {path / data}"
    return "a folder without images; they lie in FOLDER/CLASS/NAME.png, or in FOLDER without classes"
