"""A file with several splits: one of its columns names the split of each row."""

import dataclasses
from collections.abc import Mapping, Sequence

from pipeline.convert.csv_layout import place_of
from pipeline.convert.csv_table import CsvTable
from pipeline.errors import InputError, list_few, shorten
from pipeline.splits import split_of_value, stored_name

_IGNORED = "none"


def divide(
    table: CsvTable, column: str, split_map: Sequence[tuple[str, str]]
) -> tuple[dict[str, CsvTable], str] | None:
    """Split -> its rows of a table, and a line that says which values became which; None without such a column.

    Args:
        column: a name or 0-based index.
        split_map: (value, split) pairs that precede the usual names; the split "none" ignores the rows.

    Raises:
        InputError: a value is not the usual name of a split and is not in the map.
    """
    columns = table.layout.columns
    place = place_of(column, columns.names, columns.count)
    if place is None:
        return None
    given: Mapping[str, str | None] = dict(split_map)
    values: dict[str, list[str]] = {}
    unknown = []
    for value in table.distinct(place):
        split = given.get(value, split_of_value(value))
        if split is None:
            unknown.append(value)
        elif split != _IGNORED:
            values.setdefault(stored_name(split), []).append(value)
    if unknown:
        raise InputError(
            f"{table.path}: {columns.describe(place)} has {list_few(list(map(shorten, unknown)), 3)}, no usual "
            f"names of splits; say what they are with --split-map VALUE=NAME, or VALUE={_IGNORED} to ignore these rows"
        )
    if not values:
        raise InputError(f"{table.path}: {columns.describe(place)} leaves no row")
    parts = {
        split: dataclasses.replace(table, split_column=place, split_values=tuple(of_split))
        for split, of_split in values.items()
    }
    meanings = [f"{' and '.join(of_split)} is {split}" for split, of_split in values.items()]
    return parts, f"{table.path}: by {columns.describe(place)}, {list_few(meanings, 6)}; --split-map changes this"
