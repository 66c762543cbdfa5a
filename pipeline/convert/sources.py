"""The CSVs of a conversion together: opened, and found to agree in their columns before anything is written."""

from concurrent.futures import Executor

from pipeline.convert.columns import NONE, Columns
from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv_source import CsvSource
from pipeline.convert.ids import IdCheck
from pipeline.errors import InputError, shorten


def open_sources(config: ConvertConfig) -> dict[str, list[CsvSource]]:
    """Split name -> its CSVs, in the order given.

    Raises:
        InputError: a file is given twice, cannot be read, or has other columns than the rest.
    """
    sources: dict[str, list[CsvSource]] = {name: [] for name in config.split_names}
    seen: dict[tuple[int, int], str] = {}
    for name, path in config.splits:
        source = CsvSource(path, config.read_options)
        status = source.path.stat()
        file = (status.st_dev, status.st_ino)
        if file in seen:
            raise InputError(f"{path}: given twice, for split {seen[file]!r} and for split {name!r}")
        seen[file] = name
        sources[name].append(source)
    every = [source for group in sources.values() for source in group]
    for other in every[1:]:
        _check_same_pixels(every[0], other)
    for name, group in sources.items():
        for other in group[1:]:
            _check_same_roles(name, group[0], other)
    _check_found("label", config.label_column, every)
    _check_found("id", config.id_column, every)
    return sources


def _check_same_pixels(first: CsvSource, other: CsvSource) -> None:
    expected, found = first.columns, other.columns
    if expected.num_pixels != found.num_pixels:
        raise InputError(
            f"{other.first_line}: {found.num_pixels} pixel columns, but {first.path} has {expected.num_pixels}; "
            f"all files need the same"
        )
    for mine, theirs in zip(expected.pixel_names or (), found.pixel_names or (), strict=True):
        if mine != theirs:
            raise InputError(
                f"{other.first_line}: column {shorten(theirs)} stands where {first.path} has {shorten(mine)}; "
                f"all files need the same pixel columns"
            )


def _check_same_roles(split: str, first: CsvSource, other: CsvSource) -> None:
    for role in ("label", "id"):
        if _has(first.columns, role) != _has(other.columns, role):
            with_it, without = (first, other) if _has(first.columns, role) else (other, first)
            raise InputError(
                f"{without.first_line}: no {role} column, but {with_it.path} of the same split {split!r} has one"
            )


def _check_found(role: str, given: str | None, sources: list[CsvSource]) -> None:
    if given is None or given.lower() == NONE or any(_has(source.columns, role) for source in sources):
        return
    names = sources[0].columns.names or ()
    some = ", ".join(map(shorten, names[:3]))
    raise InputError(f"{sources[0].first_line}: no column {given!r} for --{role}-column; it has {some}, ...")


def _has(columns: Columns, role: str) -> bool:
    return getattr(columns, role) is not None


def read_ids(group: list[CsvSource], pool: Executor) -> IdCheck:
    """The ids of the files of a split, read for them alone."""
    ids = IdCheck()
    for source in group:
        for rows in source.read_rows(pool):
            ids.add(rows.ids)
    return ids


def duplicate_error(ids: IdCheck, group: list[CsvSource], file_rows: list[int]) -> InputError:
    """What to say of an id that stands on two rows; `file_rows` counts the rows of each file."""
    value, *rows = ids.first_duplicate()
    places = []
    for row in rows:
        for source, count in zip(group, file_rows, strict=True):
            if row < count:
                column = source.columns.describe(source.columns.id)
                places.append((source.path, source.line_of_row(row), column))
                break
            row -= count
    (first_path, first_line, _), (path, line, column) = places
    return InputError(
        f"{path}, line {line}: {column}: id {value} is a duplicate, it stands on line {first_line} of {first_path} too"
    )
