"""A CSV of names of image files and their labels."""

import csv
import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.convert.columns import ID_NAMES, LABEL_NAMES, NONE
from pipeline.convert.compressed import open_text
from pipeline.convert.csv_layout import place_of
from pipeline.convert.kinds import PICTURE_SUFFIXES
from pipeline.convert.read_options import BLANKS, ReadOptions
from pipeline.errors import InputError, list_few, shorten

if TYPE_CHECKING:
    from pipeline.convert.readers.image_files import ImageFiles

_MOST_COLUMNS = 5  # of a list whose images are not where it says; a table of so few has images of two pixels
_FIELD = re.compile(r"\{([^{}]*)\}")


def is_list(path: pathlib.Path, head: bytes, options: ReadOptions) -> bool:
    """Whether a text that begins with `head` lists image files: a cell of its first two lines is the name of one.

    In a table of pixels such a cell is an id: then there are many cells, and no such file.
    """
    if options.image_path is not None:
        return True
    for line in head.decode("utf-8", "replace").split("\n")[:2]:
        cells = [cell.strip(' "\r') for cell in re.split("[,;\t ]", line)]
        pictures = list(filter(_is_picture, cells))
        if pictures and (len(cells) <= _MOST_COLUMNS or (path.parent / pictures[0]).is_file()):
            return True
    return False


def open_list(path: pathlib.Path, options: ReadOptions, split_column: str | None = None) -> "ImageFiles":
    """A reader of the images that a CSV lists; their names are relative to it.

    `options.image_path` says how names follow from columns, such as train/{id}.png. Ids are those of an id column or,
    without labels, the names without folder and suffix.

    Raises:
        InputError: a column is not found, or a line has another number of columns.
    """
    from pipeline.convert.readers.image_files import ImageFiles  # here, because it imports Pillow

    numbers, names, rows = _read_table(path, options)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if len(columns) < len(names):
        raise InputError(f"{path}: two columns have one name; rename one of them")
    pattern = options.image_path or _pattern(path, columns)
    used = _fields(path, pattern, names)
    splits = {}
    if split_column is not None and (place := place_of(split_column, names, len(names))) is not None:
        splits = {split_column: columns[names[place]]}
        used = [*used, names[place]]
    left = [name for name in names if name not in options.drop_column]
    label = _label(path, [name for name in left if name not in used], options.label_column, names)
    identity = _given(path, "id", options.id_column, names)
    if options.id_column is None:
        identity = next((name for name in left if name.lower() in ID_NAMES), None)
    cells = [dict(zip(names, row, strict=True)) for row in rows]
    files = [_fill(pattern, row) for row in cells]
    stems = None if label else [pathlib.PurePath(file).stem for file in files]
    return ImageFiles(
        path,
        [str(path.parent / file) for file in files],
        columns[label] if label else None,
        columns[identity] if identity else stems,
        options,
        numbers,
        splits,
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


def _pattern(path: pathlib.Path, columns: dict[str, list[str]]) -> str:
    """The column of file names."""
    found = [name for name, cells in columns.items() if _is_picture(cells[0])]
    if len(found) != 1:
        which = f"columns {list_few(found, 5)} have" if found else "no column has, in its first row,"
        raise InputError(f"{path}: {which} names of images; give --image-path '{{{(found or list(columns))[0]}}}'")
    return f"{{{found[0]}}}"


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
        return _given(path, "label", given, names)
    found = [name for name in candidates if name.lower() in LABEL_NAMES]
    others = found or [name for name in candidates if name.lower() not in ID_NAMES]
    if len(others) > 1:
        raise InputError(
            f"{path}: which column is the label? give --label-column with one of {list_few(others, 5)}, or none"
        )
    return others[0] if others else None


def _given(path: pathlib.Path, role: str, given: str | None, names: Sequence[str]) -> str | None:
    """The column that an option names, by its name or index."""
    if given is None or (given.lower() == NONE and given not in names):
        return None
    if given not in names and given.isdigit() and int(given) < len(names):
        return names[int(given)]
    if given not in names:
        raise InputError(f"{path}: no column {given!r} for --{role}-column; it has {list_few(names, 5)}")
    return given
