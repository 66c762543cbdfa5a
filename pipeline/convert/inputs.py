"""The CSVs of a conversion together: opened, and checked to agree in their columns before anything is written."""

from pipeline.convert.columns import NONE, Columns
from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv_reader import CsvFile
from pipeline.errors import InputError, shorten


def open_inputs(config: ConvertConfig) -> dict[str, list[CsvFile]]:
    """Split name -> its CSVs, in the order given.

    Raises:
        InputError: a file is given twice, cannot be read, or has other columns than the rest.
    """
    inputs: dict[str, list[CsvFile]] = {name: [] for name in config.split_names}
    seen: dict[tuple[int, int], str] = {}
    for name, path in config.splits:
        csv = CsvFile(path, config.read_options)
        status = csv.path.stat()
        file = (status.st_dev, status.st_ino)
        if file in seen:
            raise InputError(f"{path}: given twice, for split {seen[file]!r} and for split {name!r}")
        seen[file] = name
        inputs[name].append(csv)
    files = [csv for group in inputs.values() for csv in group]
    for other in files[1:]:
        _check_same_pixels(files[0], other)
    for name, group in inputs.items():
        for other in group[1:]:
            _check_same_roles(name, group[0], other)
    _check_used("label", config.label_column, files)
    _check_used("id", config.id_column, files)
    return inputs


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


def _check_same_roles(split: str, first: CsvFile, other: CsvFile) -> None:
    for role in ("label", "id"):
        if _has(first.columns, role) != _has(other.columns, role):
            with_it, without = (first, other) if _has(first.columns, role) else (other, first)
            raise InputError(
                f"{without.first_line}: no {role} column, but {with_it.path} of the same split {split!r} has one"
            )


def _check_used(role: str, column: str | None, files: list[CsvFile]) -> None:
    if column is None or column.lower() == NONE or any(_has(csv.columns, role) for csv in files):
        return
    names = ", ".join(map(shorten, (files[0].columns.names or ())[:3]))
    raise InputError(f"{files[0].first_line}: no column {column!r} for --{role}-column; it has {names}, ...")


def _has(columns: Columns, role: str) -> bool:
    return getattr(columns, role) is not None
