"""The CSVs of a conversion together: opened, and checked to agree in their columns before anything is written."""

from collections.abc import Sequence

from pipeline.convert.columns import NONE
from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv_reader import CsvFile
from pipeline.convert.source import Identity, SourceFile
from pipeline.errors import InputError, shorten


def open_inputs(config: ConvertConfig) -> dict[str, list[CsvFile]]:
    """Split name -> its CSVs, in the order given.

    Raises:
        InputError: a file is given twice, cannot be read, or has other columns than the rest.
    """
    inputs: dict[str, list[CsvFile]] = {name: [] for name in config.split_names}
    seen: dict[Identity, str] = {}
    for name, path in config.splits:
        csv = CsvFile(path, config.read_options)
        if csv.identity in seen:
            raise InputError(f"{path}: given twice, for split {seen[csv.identity]!r} and for split {name!r}")
        seen[csv.identity] = name
        inputs[name].append(csv)
    files = [csv for group in inputs.values() for csv in group]
    for other in files[1:]:
        _check_same_pixels(files[0], other)
    for name, group in inputs.items():
        check_same_roles(name, group)
    _check_used("label", config.label_column, files, [csv.has_labels for csv in files])
    _check_used("id", config.id_column, files, [csv.has_ids for csv in files])
    return inputs


def check_same_roles(split: str, files: Sequence[SourceFile]) -> None:
    """Refuse files of one split of which some have labels, or ids, and some have none."""
    for role, given in (("label", [file.has_labels for file in files]), ("id", [file.has_ids for file in files])):
        if len(set(given)) > 1:
            without, with_it = (files[given.index(has)].path for has in (False, True))
            raise InputError(f"{without}: has no {role}, but {with_it} of the same split {split!r} has one")


def _check_same_pixels(first: CsvFile, other: CsvFile) -> None:
    expected, columns = first.columns, other.columns
    if expected.num_pixels != columns.num_pixels:
        raise InputError(
            f"{other.first_line}: {columns.num_pixels} pixel columns, but {first.path} has {expected.num_pixels}; "
            f"all files need the same"
        )
    for wanted, name in zip(expected.pixel_names or (), columns.pixel_names or (), strict=True):
        if wanted != name:
            raise InputError(
                f"{other.first_line}: column {shorten(name)} in the place of {shorten(wanted)} in {first.path}; "
                f"all files need the same pixel columns"
            )


def _check_used(role: str, column: str | None, files: Sequence[CsvFile], given: Sequence[bool]) -> None:
    # One file may lack the column, if its split has no labels; if all do, the name is wrong.
    if column is not None and column.lower() != NONE and not any(given):
        names = ", ".join(map(shorten, (files[0].columns.names or ())[:3]))
        raise InputError(f"{files[0].first_line}: no column {column!r} for --{role}-column; it has {names}, ...")
