"""Opening one file of any layout: the fast reader of plain numbers if it can read it, else another."""

import dataclasses
import os

from pipeline.convert.csv.layout import find_layout
from pipeline.convert.csv.reader import CsvFile
from pipeline.convert.csv.table import CsvTable
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_reader
from pipeline.convert.table import Reader
from pipeline.errors import InputError
from pipeline.remote import as_path
from pipeline.splits import TRAIN


def open_file(
    path: str | os.PathLike,
    options: ReadOptions,
    split_column: str | None = None,
    split: str = TRAIN,
    given_labels: bool = False,
) -> CsvFile | Reader:
    """The reader of a file, folder or member, of rows of `split`; see `readers.find_reader`.

    With `split_column` a table of text that has this column is a `CsvTable`.

    Raises:
        InputError: the file is missing, or of a kind or layout that cannot be read.
    """
    path = as_path(path)
    reader = find_reader(path, options, split, given_labels, split_column)
    if reader is not None:
        return reader
    layout = find_layout(path, options, split_column)
    if layout is None or layout.is_plain:
        return CsvFile(path, options)
    return CsvTable(path, layout, options)


def as_table(file: CsvFile | Reader) -> Reader:
    """A reader of the same rows as they are in the file, whose labels can be replaced."""
    if not isinstance(file, CsvFile):
        return file
    layout = find_layout(file.path, file.options)
    if layout is None:
        raise InputError(f"{file.path}: not a table of text")
    return CsvTable(file.path, layout, file.options)


def with_text_labels(file: CsvFile | Reader) -> CsvFile | Reader:
    """The same file with its labels as names, as those of another file are; unchanged if it has none in a column."""
    if not file.has_labels or not isinstance(file, (CsvFile, CsvTable)):
        return file
    table = as_table(file)
    if not isinstance(table, CsvTable) or table.layout.columns.label is None:
        return file
    return dataclasses.replace(table, layout=dataclasses.replace(table.layout, text_label=True))
