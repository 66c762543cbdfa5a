"""What can be predicted: a converted split, any file that the converter reads, or image files."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.augment.choice import is_dark_background
from pipeline.cli import flag_of
from pipeline.convert.csv.reader import CsvFile
from pipeline.convert.open_file import open_file
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.pictures import read_picture
from pipeline.convert.table import Block, Reader, TableFile
from pipeline.errors import InputError, pluralize
from pipeline.evaluate.predict import Rows
from pipeline.evaluate.saved_run import SavedRun, shape_text
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.format.records import UNLABELLED
from pipeline.format.text_ids import original_ids

_DEEP = 65535  # white of 16 bits per pixel


class Source(NamedTuple):
    """Rows to predict, in order: blocks of any size, to be read once; their number if it is known.

    `numbered`: the rows have no ids, so theirs are their numbers from 0. `ids` [n] are those of all rows if they are
    known before the blocks are read. `place_of` tells how messages name a row whose id may occur twice. `listed`: few
    enough rows to print them all. `notes` are lines to print before.
    """

    name: str
    blocks: Iterable[Rows]
    num_rows: int | None = None
    numbered: bool = False
    ids: np.ndarray | None = None
    place_of: Callable[[int], str] | None = None
    listed: bool = False
    notes: Sequence[str] = ()


def open_split(run: SavedRun, data_dir: pathlib.Path, split_name: str) -> Source:
    """The rows of a converted split.

    Raises:
        InputError: the split or a shard is missing or corrupt, or its images or classes are not those of the run.
    """
    manifest = load_manifest(data_dir)
    run.check_fits(str(data_dir), manifest.image_shape, manifest.class_names)
    split = load_split(data_dir, manifest, split_name)
    ids = original_ids(data_dir, manifest, split_name, split.ids)
    sources = manifest.sources_of(split_name)
    # Of some kinds of file the manifest does not know whether they had ids.
    numbered = all(source.id_column is None for source in sources) if sources else _count_rows(ids)
    return Source(split_name, [(split.images, split.labels, ids)], len(split), numbered, ids)


def open_csv(run: SavedRun, path: pathlib.Path, options: ReadOptions = ReadOptions(), as_is: bool = False) -> Source:
    """The rows of a CSV or of another file that the converter reads, read when they are needed.

    Options that are not given and changed the pixels of the training data apply here too, unless `as_is`.

    Raises:
        InputError: the file is missing or invalid, or its images are not of the run's size. While the rows are read: a
            row is invalid, or a label is not one of the run's classes.
    """
    added = {} if as_is else _as_trained(run, options)
    options = dataclasses.replace(options, **added)
    file: Any = open_file(path, options, split="test")
    notes = file.notes
    if added:
        given = " ".join(_option_text(name, value) for name, value in added.items())
        notes = [*notes, f"read as the training data were, with {given}; --as-is reads the file without"]
    if isinstance(file, CsvFile):
        _check_num_pixels(run, path, file.columns.num_pixels)
    else:
        file = _open_table(run, file, options)
    return Source(path.name, _rows_of(file, run), None, not file.has_ids, None, file.place_of, False, notes)


def _as_trained(run: SavedRun, options: ReadOptions) -> dict[str, Any]:
    """The options of the training data's conversion that are not given now."""
    of_run = msgspec.structs.asdict(run.reading)
    return {name: value for name, value in of_run.items() if value and not getattr(options, name)}


def _option_text(name: str, value: Any) -> str:
    parts = value if isinstance(value, tuple) else [] if value is True else [value]
    return " ".join([flag_of(name), *(part if isinstance(part, str) else f"{part:g}" for part in parts)])


def open_images(run: SavedRun, paths: Sequence[pathlib.Path], resize: bool = False, invert: bool = False) -> Source:
    """Image files; their names are the ids, or their paths if two have one name.

    Raises:
        InputError: a file is missing, not an image, given twice, or of another size than the run's images.
    """
    doubled = next((path for row, path in enumerate(paths) if path in paths[:row]), None)
    if doubled is not None:
        raise InputError(f"{doubled}: given twice; its name is the id, which must be unique")
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise InputError(f"{missing}: no such file")
    height, width, channels = run.image_shape
    options = ReadOptions(
        channels=channels if channels in (1, 3) else None, image_size=(height, width) if resize else None
    )
    images = np.empty((len(paths), math.prod(run.image_shape)), np.uint8)
    for row, path in enumerate(paths):
        image = read_picture(str(path), path, options)
        if image.shape != run.image_shape:
            given, needed = shape_text(image.shape), shape_text(run.image_shape)
            same_size = image.shape[:2] == run.image_shape[:2]
            advice = "use such files" if same_size else "--resize resizes images (proportions are not kept)"
            raise InputError(f"{path}: an image of {given}, but {run.directory} was trained on {needed}; {advice}")
        if image.dtype != np.uint8:
            image = np.rint(image * (255 / max(_DEEP, int(image.max())))).astype(np.uint8)
        images[row] = image.reshape(-1)
    ids = [path.name for path in paths]
    ids = ids if len(set(ids)) == len(ids) else list(map(str, paths))
    notes = [f"resized to {height} x {width} (bilinear, antialiased; proportions are not kept)"] if resize else []
    images, note = _with_background(run, images, invert)
    rows = images, np.full(len(paths), UNLABELLED), np.array(ids, object)
    return Source("images", [rows], len(paths), False, rows[2], lambda row: str(paths[row]), True, [*notes, *note])


def _with_background(run: SavedRun, images: np.ndarray, invert: bool) -> tuple[np.ndarray, list[str]]:
    """The images, inverted if asked, and what to say of it; of gray ones, whether their background is the run's."""
    if invert:
        return 255 - images, ["black and white are swapped"]
    if run.image_shape[2] != 1 or run.dark_background is None:
        return images, []
    dark = [is_dark_background(image.reshape(1, *run.image_shape)) for image in images]
    other = sum(value != run.dark_background for value in dark)
    if not other:
        return images, []
    own, trained = ("light", "dark") if run.dark_background else ("dark", "light")
    return images, [
        f"{pluralize(other, 'image')} of {len(images)} with a {own} background, but the run was trained on {trained} "
        "ones; --invert swaps black and white"
    ]


def _count_rows(ids: np.ndarray) -> bool:
    return ids.dtype != object and np.array_equal(ids, np.arange(len(ids)))


def _check_num_pixels(run: SavedRun, path: pathlib.Path, num_pixels: int) -> None:
    needed = math.prod(run.image_shape)
    if num_pixels != needed:
        raise InputError(
            f"{path}: {num_pixels} pixel columns, but {run.directory} was trained on {run.data_name} with images of "
            f"{shape_text(run.image_shape)}, which need {needed}; use data of that shape"
        )


def _open_table(run: SavedRun, reader: Reader, options: ReadOptions) -> TableFile:
    if reader.image_shape is None and options.image_shape is None and options.image_size is None:
        first = next(iter(reader.blocks()), None)
        if first is not None:
            _check_num_pixels(run, reader.path, math.prod(first.values.shape[1:]))
        options = dataclasses.replace(options, image_shape=run.image_shape)
    table = TableFile(reader, options)
    if table.image_shape != run.image_shape:
        height, width, channels = run.image_shape
        raise InputError(
            f"{reader.path}: images of {shape_text(table.image_shape)}, but {run.directory} was trained on "
            f"{shape_text(run.image_shape)}; --image-size {height} {width} --channels {channels} changes them"
        )
    return table


def _rows_of(file: CsvFile | TableFile, run: SavedRun) -> Iterator[Rows]:
    first = 0
    # One block at a time, so that a file of any size is predicted in little memory.
    blocks: Iterator[Any] = file.read(file.first_row, None)
    for block in blocks:
        images, labels, ids = file.parse(block) if isinstance(file, CsvFile) else _parse(file, block)
        end = first + len(images)
        yield images, _classes_of(labels, first, end, file, run), np.arange(first, end) if ids is None else ids
        first = end
    if not first:
        raise InputError(f"{file.path}: has no rows")


def _parse(table: TableFile, block: Block) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Images, labels and ids; the labels are compared with the run's classes, not with other files of a conversion."""
    images = table.parse(block._replace(rows=block.rows._replace(labels=None))).images
    labels, names = block.rows.labels, table.reader.class_names
    if labels is not None and names is not None:
        labels = np.array([names[label] for label in labels.tolist()], object)
    return images, labels, block.rows.ids


def _classes_of(
    labels: np.ndarray | None, first: int, end: int, file: CsvFile | TableFile, run: SavedRun
) -> np.ndarray:
    """int64 [n]: the class of each label of rows first .. end - 1; -1 if there are no labels."""
    if labels is None:
        return np.full(end - first, UNLABELLED)
    known = {name: index for index, name in enumerate(run.class_names)}
    classes = np.array([known.get(str(label), UNLABELLED) for label in labels.tolist()], np.int64)
    if (classes == UNLABELLED).any():
        row = int((classes == UNLABELLED).argmax())
        raise InputError(
            f"{file.path}, row {first + row} (counted from 0): label {labels[row]} is not one of the "
            f"classes of {run.directory}; use data of the same classes"
        )
    return classes
