"""A CSV of names of image files and their labels."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.convert.compressed import open_text
from pipeline.convert.csv.columns import ID_NAMES, INDEX_NAME, LABEL_NAMES, column_place, named_column
from pipeline.convert.csv.strict import is_number
from pipeline.convert.kinds import PICTURE_SUFFIXES
from pipeline.convert.read_options import BLANKS, ReadOptions
from pipeline.convert.readers.labels import first_not_one_hot
from pipeline.errors import InputError, list_few, shorten
from pipeline.remote import is_remote

if TYPE_CHECKING:
    from pipeline.convert.readers.image_files import ImageFiles

_MOST_COLUMNS = 5  # of a list whose images are not where it says; a table of so few has images of two pixels
_MOST_FOLDERS = 50
_FIELD = re.compile(r"\{([^{}]*)\}")


def is_list(path: pathlib.Path, head: bytes, options: ReadOptions) -> bool:
    """Whether a text that begins with `head` lists image files.

    A cell of its first two lines is the name of one or, without its suffix, of one in a folder beside the text. In a
    table of pixels such a cell is an id: then there are many cells.
    """
    if options.image_path is not None:
        return True
    for line in head.decode("utf-8", "replace").split("\n")[:2]:
        cells = [cell.strip(' "\r') for cell in re.split("[,;\t ]", line)]
        count = len(cells) - (options.one_hot_labels or 0)
        if count > _MOST_COLUMNS:
            found = any(_is_file(path.parent / cell) for cell in filter(_is_picture, cells))
        elif any(map(_is_picture, cells)):
            found = True
        else:
            # Numbers alone may be pixels; of two or three columns they are rather an id, a label and something else.
            may_be_list = count <= 3 or not all(map(is_number, filter(None, cells)))
            found = may_be_list and any(_find(path, cell) for cell in cells)
        if found:
            return True
    return False


def refuse_without_pixels(path: pathlib.Path, head: bytes) -> None:
    """Raise InputError for a table of names and labels, whose images were not found: it has texts and no pixels."""
    if 0 in head:  # UTF-16, which the reader of tables names
        return
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()[:2]
    header, first = ([cell.strip(' "') for cell in re.split("[,;\t]", line)] for line in (*lines, "", "")[:2])
    numbers = sum(map(is_number, first))
    in_one_cell = any(len(cell.split()) > 1 for cell in first)
    if 2 <= len(first) <= _MOST_COLUMNS and len(header) == len(first) and numbers <= 1 and not in_one_cell:
        raise InputError(
            f"{path}: its columns {list_few(header, 5)} have no pixels; if it lists images, say where they "
            f"are, relative to it, with --image-path 'FOLDER/{{{header[0]}}}.png'"
        )


def _find(path: pathlib.Path, name: str) -> list[str]:
    """Paths of images called `name`, with or without their suffix, beside a list or at most two folders deeper.

    They are relative to the list, with `{}` in place of the name.
    """
    if is_remote(path) or not name or "/" in name or name.startswith("."):
        return []
    folders = [path.parent, *_folders_in(path.parent)]
    # Upper case only if lower case finds none, because some file systems do not tell .jpg from .JPG.
    choices = [("",)] if _is_picture(name) else [PICTURE_SUFFIXES, tuple(map(str.upper, PICTURE_SUFFIXES))]
    for ends in choices:
        found = [(folder, end) for folder in folders for end in ends if _is_file(folder / f"{name}{end}")]
        if found:
            return [f"{(folder / '{}').relative_to(path.parent)}{end}" for folder, end in found]
    return []


def _is_file(path: pathlib.Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's refuses names that are too long


def _folders_in(parent: pathlib.Path) -> list[pathlib.Path]:
    """Folders in a folder, and those in them, of which there may be too many to look at."""
    folders = [entry for entry in sorted(parent.iterdir()) if entry.is_dir()][:_MOST_FOLDERS]
    deeper = [entry for folder in folders for entry in sorted(folder.iterdir()) if entry.is_dir()]
    return [*folders, *deeper[:_MOST_FOLDERS]]


def open_list(path: pathlib.Path, options: ReadOptions, split: str, split_column: str | None = None) -> "ImageFiles":
    """A reader of the images that a CSV lists; their names are relative to it.

    `options.image_path` says how names follow from columns, such as train/{id}.png; without it images are looked for,
    those of `split` in folders named like it. Ids are those of an id column or,
    without labels, the names without folder and suffix.

    Raises:
        InputError: a column is not found, or a line has another number of columns.
    """
    from pipeline.convert.readers.image_files import ImageFiles  # here, because it imports Pillow

    numbers, names, rows = _read_table(path, options)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if len(columns) < len(names):
        raise InputError(f"{path}: two columns have one name; rename one of them")
    pattern, notes = (options.image_path, ()) if options.image_path else _pattern(path, columns, split)
    used = _fields(path, pattern, names)
    splits = {}
    if split_column is not None and (place := column_place(split_column, names, len(names))) is not None:
        splits = {split_column: columns[names[place]]}
        used = [*used, names[place]]
    left = [name for name in names if name not in options.drop_column]
    identity = named_column(path, "id", options.id_column, names)
    if options.id_column is None:
        identity = next((name for name in left if name.lower() in ID_NAMES), None)
    # Neither the index that pandas writes nor a separator at the end of each row is a label.
    unused = [name for name in left if name not in (*used, identity) and not INDEX_NAME.fullmatch(name)]
    cells = [dict(zip(names, row, strict=True)) for row in rows]
    files = [_fill(pattern, row) for row in cells]
    if options.one_hot_labels is not None:
        labels: Sequence[str] | None = _one_hot(path, unused[-options.one_hot_labels :], cells, numbers)
    else:
        label = _label(path, unused, options.label_column, names)
        labels = columns[label] if label else None
    stems = None if labels else [pathlib.PurePath(file).stem for file in files]
    return ImageFiles(
        path,
        [str(path.parent / file) for file in files],
        labels,
        columns[identity] if identity else stems,
        options,
        numbers,
        splits,
        notes,
    )


def _fill(pattern: str, row: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda field: row[field[1]], pattern)


def _read_table(path: pathlib.Path, options: ReadOptions) -> tuple[list[int], list[str], list[list[str]]]:
    """Line numbers, names of columns (without a header their indices), and rows of texts."""
    with open_text(path) as (stream, _):
        text = b"".join(iter(lambda: stream.read(1 << 20), b"")).decode("utf-8-sig", "surrogateescape")
    first = text.split("\n", 1)[0]
    given = options.separates_by or max(",;\t", key=first.count)
    separator = " " if given == BLANKS else given
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error
    names = [str(column) for column in range(len(lines[0][1]))] if lines else []
    if lines and options.has_header and not any(map(_is_picture, lines[0][1])):
        names = lines.pop(0)[1]
    if not lines:
        raise InputError(f"{path}: names no image")
    for number, row in lines:
        if len(row) != len(names):
            raise InputError(f"{path}, line {number}: {len(row)} columns, but the first line has {len(names)}")
    return [number for number, _ in lines], names, [row for _, row in lines]


def _is_picture(cell: str) -> bool:
    return cell.lower().endswith(PICTURE_SUFFIXES) and not cell.startswith(".")


def _pattern(path: pathlib.Path, columns: Mapping[str, Sequence[str]], split: str) -> tuple[str, tuple[str, ...]]:
    """Where the images lie, by the first row, as --image-path has it, and what to report of it."""
    named = [name for name, cells in columns.items() if _is_picture(cells[0])]
    if len(named) > 1:
        raise InputError(
            f"{path}: columns {list_few(named, 5)} have names of images; give --image-path '{{{named[0]}}}'"
        )
    if named and (path.parent / columns[named[0]][0]).is_file():
        return f"{{{named[0]}}}", ()
    found = [
        place.replace("{}", f"{{{name}}}")
        for name in named or _distinct(columns)
        for place in _find(path, columns[name][0])
    ]
    of_split = [place for place in found if split in place.lower()]
    if len(of_split) == 1 or len(found) == 1:
        chosen = (of_split if len(of_split) == 1 else found)[0]
        return chosen, (f"{path}: images are {chosen}; --image-path changes this",)
    if not found:
        first = (named or list(columns))[0]
        raise InputError(
            f"{path}: no image {shorten(columns[first][0])} beside it; say where images are, relative to it, with "
            f"--image-path 'FOLDER/{{{first}}}'"
        )
    raise InputError(f"{path}: images may be {list_few(found, 4)}; choose with --image-path '{found[0]}'")


def _distinct(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns that may be names of images: no value occurs twice; of several, those called id."""
    names = [name for name, cells in columns.items() if len(set(cells)) == len(cells)]
    identities = [name for name in names if name.lower() in ID_NAMES]
    return identities or names


def _fields(path: pathlib.Path, pattern: str, names: Sequence[str]) -> list[str]:
    """Columns that a pattern of paths names."""
    fields = _FIELD.findall(pattern)
    if not fields:
        raise InputError(f"--image-path {shorten(pattern)} names no column; write it like train/{{{names[0]}}}.png")
    for field in fields:
        if field not in names:
            raise InputError(f"{path}: no column {field!r} for --image-path; it has {list_few(names, 5)}")
    return fields


def _label(path: pathlib.Path, candidates: Sequence[str], given: str | None, names: Sequence[str]) -> str | None:
    """The label's column: as given, by its name, or the only one that is left."""
    if given is not None:
        return named_column(path, "label", given, names)
    found = [name for name in candidates if name.lower() in LABEL_NAMES]
    others = found or [name for name in candidates if name.lower() not in ID_NAMES]
    if len(others) > 1:
        raise InputError(
            f"{path}: which column is the label? give --label-column with one of {list_few(others, 5)}, or none; "
            "one-hot labels need --one-hot-labels N"
        )
    return others[0] if others else None


def _one_hot(
    path: pathlib.Path, names: Sequence[str], cells: Sequence[Mapping[str, str]], numbers: Sequence[int]
) -> list[str]:
    """For each row the name of the column that has a 1, among zeros in the others."""
    values = np.array([[float(row[name]) if is_number(row[name]) else -1 for name in names] for row in cells])
    if (wrong := first_not_one_hot(values)) is not None:
        raise InputError(
            f"{path}, line {numbers[wrong]}: not a single 1 among zeros in columns {list_few(names, 5)}; check "
            "--one-hot-labels, or ignore other columns with --drop-column"
        )
    return [names[place] for place in values.argmax(axis=1)]
