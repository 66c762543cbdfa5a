"""The layout of a text table, from its first two lines and the options: columns, and what these hold."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

from pipeline.convert.csv.columns import (
    ID_NAMES,
    LABEL_NAMES,
    NONE,
    Columns,
    column_place,
    find_columns,
    unwanted_columns,
)
from pipeline.convert.csv.head import SEPARATOR_NAMES, Head, check_separator, read_head
from pipeline.convert.csv.strict import is_number
from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError, shorten
from pipeline.splits import split_of_value

CELL_MARKS = str.maketrans("[](),;", " " * 6)  # between the pixels of a cell, as Python writes a list
_DECIMAL_COMMA = re.compile("[+-]?[0-9]+,[0-9]+")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a text table holds.

    Args:
        separator: a character, or BLANKS.
        skip: lines before the first row.
        columns: which column is what.
        one_hot: the columns of the label, if it has one per class.
        in_one_cell: a single column has all pixels of an image, separated by blanks.
        text_label, text_id: values are names.
        ends_empty: the last column is only the separator at the end of each row.
        is_plain: nothing but numbers, one per column and separated by commas.
        notes: what was guessed, a line each.
    """

    separator: str
    skip: int
    columns: Columns
    one_hot: tuple[int, ...] = ()
    in_one_cell: bool = False
    text_label: bool = False
    text_id: bool = False
    ends_empty: bool = False
    is_plain: bool = False
    notes: tuple[str, ...] = ()


def find_layout(path: pathlib.Path, options: ReadOptions, split_column: str | None = None) -> Layout | None:
    """The layout of a file; None if its first lines are not text that can be split, as `CsvFile` will report.

    `split_column` names the split of each row, if the file has that column.

    Raises:
        InputError: a column has no name, two names, or values of another kind than its place says.
    """
    head = read_head(path, options)
    if head is None:
        return None
    if len(head.fields) == 1:
        check_separator(head, options)
    names = [field.strip() for field in head.fields] if options.has_header else None
    ignored = [*options.drop_column, *([] if split_column is None else [split_column])]
    others = [k for name in ignored if (k := column_place(name, names, len(head.fields))) is not None]
    ends_empty = head.ends_empty and len(head.fields) - 1 not in others
    others += [len(head.fields) - 1] if ends_empty else []
    others += unwanted_columns(names, options.label_column, options.id_column)
    one_hot = _find_one_hot(head, others, options)
    label_column = NONE if one_hot else options.label_column
    columns = find_columns(
        head.where, head.fields, options.has_header, label_column, options.id_column, (*others, *one_hot)
    )
    in_one_cell = text_label = text_id = False
    if head.row is not None:
        in_one_cell = (
            columns.num_pixels == 1 and len(head.row[columns.pixel_indices[0]].translate(CELL_MARKS).split()) > 1
        )
        text_label, text_id = (has_names(column, head, columns, options) for column in (columns.label, columns.id))
        if not in_one_cell:
            _check_numbers(head, columns)
    named = columns.layout if options.layout is None else None
    unusual = head.separator != "," or head.altered or columns.others or in_one_cell or named or text_label or text_id
    is_ascii = all(map(str.isascii, [*head.fields, *(head.row or ())]))
    layout = Layout(head.separator, head.skip, columns, one_hot, in_one_cell, text_label, text_id, ends_empty)
    return dataclasses.replace(
        layout,
        is_plain=is_ascii and not unusual and not options.changes_pixels,
        notes=_notes(head, layout, options),
    )


def find_label_layout(path: pathlib.Path, options: ReadOptions) -> Layout:
    """The layout of a file of labels, and perhaps ids, without pixels.

    Raises:
        InputError: it is not text, or which column has the labels is unclear.
    """
    head = read_head(path, options)
    if head is None:
        raise InputError(f"{path}: not a text file of labels")
    # Whether the images have a header says nothing about this file.
    has_header = any(name.strip().lower() in (*LABEL_NAMES, *ID_NAMES) for name in head.fields)
    if has_header or all(map(is_number, head.fields)):
        options = dataclasses.replace(options, has_header=has_header)
        head = read_head(path, options) or head
    # The options are about the images, so they count if they happen to fit.
    label, identity = (
        name if name in head.fields or (name == NONE and role == "id") else None
        for role, name in (("label", options.label_column), ("id", options.id_column))
    )
    others = [len(head.fields) - 1] if head.ends_empty else []
    others += unwanted_columns(head.fields if options.has_header else None, None, options.id_column)
    columns = find_columns(head.where, head.fields, options.has_header, label, identity, others, only_images=False)
    free = columns.pixel_indices
    place, id_place = columns.label, columns.id
    if place is None and len(free) == 1:
        place = free[0]
    elif id_place is None and identity is None and len(head.fields) - len(others) == 2:
        # The first one of two nameless columns has ids, as in Kaggle's files of labels.
        id_place, place = (free[0], place) if place is not None else (free[0], free[1])
    if place is None:
        raise InputError(
            f"{head.where}: no column of labels; choose with --label-column, and that of ids by --id-column"
        )
    unused = tuple(k for k in range(columns.count) if k not in (place, id_place))
    columns = Columns(columns.count, place, id_place, columns.names, unused)
    names = [has_names(column, head, columns, options) for column in (place, id_place)]
    return Layout(head.separator, head.skip, columns, text_label=names[0], text_id=names[1])


def has_names(column: int | None, head: Head, columns: Columns, options: ReadOptions) -> bool:
    """Whether a column's values are names: the first one is, as are digits that begin with 0, or an option says so."""
    if column is None or head.row is None:
        return False
    if column in [column_place(name, columns.names, columns.count) for name in options.text_column]:
        return True
    value = head.row[column].strip()
    is_code = len(value) > 1 and value.isdigit() and value.startswith("0")  # a number would lose the zeros
    return is_code or (value != "" and not is_number(value))


def _notes(head: Head, layout: Layout, options: ReadOptions) -> tuple[str, ...]:
    columns, notes = layout.columns, list(layout.columns.notes)
    if head.separator != "," and options.separator is None:
        notes.append(
            f"{head.where}: values are separated by {SEPARATOR_NAMES[head.separator]}; if not, give --separator"
        )
    if layout.ends_empty:
        notes.append(f"{head.where}: a separator ends every row, so the empty column {columns.count - 1} is ignored")
    if layout.in_one_cell:
        notes.append(f"{head.where}: {columns.describe(columns.pixel_indices[0])} has all pixels of an image")
    if columns.layout is not None and options.layout is None:
        order = "planes" if columns.layout == "CHW" else "the channels of a pixel together"
        notes.append(f"{head.where}: by their names, columns are {order}; --layout HWC or CHW overrides this")
    if layout.one_hot:
        notes.append(f"{head.where}: columns {layout.one_hot[0]} to {layout.one_hot[-1]} are the one-hot label")
    return tuple(notes)


def _find_one_hot(head: Head, others: Sequence[int], options: ReadOptions) -> tuple[int, ...]:
    """The columns of a one-hot label: the last ones or, if these are not one-hot in the first row, the first ones."""
    count = options.one_hot_labels
    if count is None or head.row is None:
        return ()
    columns = find_columns(
        head.where, head.fields, options.has_header, NONE, options.id_column, others, only_images=False
    )
    places = columns.pixel_indices
    for group in (places[-count:], places[:count]):
        values = [float(head.row[k]) if is_number(head.row[k]) else -1 for k in group]
        if len(places) > count and sorted(values) == [0] * (count - 1) + [1]:
            return tuple(group)
    raise InputError(
        f"{head.where}: neither the last nor the first {count} of {len(places)} columns have a single 1 among zeros in "
        "the first row; check --one-hot-labels, or ignore other columns with --drop-column"
    )


def _check_numbers(head: Head, columns: Columns) -> None:
    """Refuse a first row with text among the pixels."""
    row = head.row or [""] * columns.count
    cells = [k for k in columns.pixel_indices if _has_several_numbers(row[k])]
    for column in columns.pixel_indices:
        value = row[column]
        if not value.strip() or is_number(value) or column in cells:
            continue
        what = f"{head.row_where}: {columns.describe(column)}: {shorten(value)} is"
        drop = f"--drop-column {columns.option(column)}"
        if split_of_value(value) is not None:
            raise InputError(
                f"{what} the name of a split; give --split-column {columns.option(column)}, or ignore it with {drop}"
            )
        if _DECIMAL_COMMA.fullmatch(value):
            raise InputError(f"{what} written with a decimal comma; write numbers with a point")
        hint = "" if columns.names else "if this line names columns, omit --no-header; "
        raise InputError(
            f"{what} not a plain integer in 0..255; {hint}if the column has no pixels, select it with --label-column "
            f"or --id-column, or ignore it with {drop}"
        )
    if cells:
        others = [k for k in columns.pixel_indices if k != cells[0]]
        drop = " ".join(f"--drop-column {columns.option(k)}" for k in others[:3])
        raise InputError(
            f"{head.row_where}: {columns.describe(cells[0])} has several numbers, as if it had all pixels of an image; "
            f"then ignore the other columns with {drop}"
        )


def _has_several_numbers(cell: str) -> bool:
    values = cell.translate(CELL_MARKS).split()
    return len(values) > 1 and all(map(is_number, values)) and not _DECIMAL_COMMA.fullmatch(cell.strip())
