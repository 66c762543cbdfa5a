"""A file with several splits: one of its columns names the split of each row."""

from collections.abc import Mapping, Sequence

from pipeline.convert.table import Reader
from pipeline.errors import InputError, list_few, shorten
from pipeline.splits import split_of_value, stored_name

_IGNORED = "none"


def divide(file: Reader, column: str, split_map: Sequence[tuple[str, str]]) -> tuple[dict[str, Reader], str] | None:
    """Split -> its rows of a file, and a line that says which values became which; None without such a column.

    Args:
        file: a table, or a list of image files.
        column: a name or 0-based index.
        split_map: (value, split) pairs that precede the usual names; the split "none" ignores the rows.

    Raises:
        InputError: a value is not the usual name of a split and is not in the map.
    """
    found = file.values_of(column)
    if found is None:
        return None
    given: Mapping[str, str | None] = dict(split_map)
    values: dict[str, list[str]] = {}
    unknown = []
    for value in found:
        split = given.get(value, split_of_value(value))
        if split is None:
            unknown.append(value)
        elif split != _IGNORED:
            values.setdefault(stored_name(split), []).append(value)
    if unknown:
        raise InputError(
            f"{file.path}: column {shorten(column)} has {list_few(list(map(shorten, unknown)), 3)}, no usual "
            f"names of splits; say what they are with --split-map VALUE=NAME, or VALUE={_IGNORED} to ignore these rows"
        )
    if not values:
        raise InputError(f"{file.path}: column {shorten(column)} leaves no row")
    parts = {split: file.rows_with(column, of_split) for split, of_split in values.items()}
    meanings = [f"{' and '.join(of_split)} is {split}" for split, of_split in values.items()]
    return parts, f"{file.path}: by column {shorten(column)}, {list_few(meanings, 6)}; --split-map changes this"
