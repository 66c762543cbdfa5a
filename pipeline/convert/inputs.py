"""The files of a conversion together: opened, and checked to agree before anything is written."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from pipeline.convert.classes import class_note, find_class_names, has_class_names
from pipeline.convert.compressed import split_member
from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv.columns import NONE, Columns, column_place, infer_image_shape
from pipeline.convert.csv.reader import CsvFile
from pipeline.convert.open_file import as_table, open_file, with_text_labels
from pipeline.convert.pixels import Shape
from pipeline.convert.plan import Labels
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.second_labels import WithLabels, add_labels
from pipeline.convert.source import Identity, SourceFile, identify
from pipeline.convert.split_column import divide
from pipeline.convert.table import Reader, TableFile
from pipeline.errors import InputError, shorten
from pipeline.remote import as_path, is_remote
from pipeline.splits import TRAIN, split_notes, stored_name

OnNotice = Callable[[str], None]
Opened = CsvFile | Reader


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Split name -> its files, in the order given; `class_names` if labels are names."""

    files: Mapping[str, Sequence[SourceFile]]
    image_shape: Shape
    class_names: tuple[str, ...] | None

    def classes(self, labels: Labels) -> tuple[Labels, tuple[str, ...]]:
        """The labels of all classes, and their names, given those that occur (`plan.Rules`)."""
        if self.class_names is None:
            return labels, tuple(map(str, labels))
        return tuple(range(len(self.class_names))), self.class_names


def open_inputs(config: ConvertConfig, on_notice: OnNotice | None = None) -> Inputs:
    """The files of each split.

    Raises:
        InputError: a file is given twice, cannot be read, or has other columns, images or labels than the rest.
    """
    note = on_notice or (lambda _: None)
    opened = _open_all(config, note)
    _check_columns(config, opened)
    _check_splits(config, opened, note)
    if any(not isinstance(file, CsvFile) and has_class_names(file) for _, file in opened):
        opened = [(name, with_text_labels(file)) for name, file in opened]
    return agree(opened, config.read, note)


def agree(opened: Sequence[tuple[str, Opened]], options: ReadOptions, note: OnNotice) -> Inputs:
    """Opened files of splits, in the order given, as the sources of one data set.

    Raises:
        InputError: they have other images, labels or ids than the first.
    """
    names = find_class_names([file for _, file in opened if not isinstance(file, CsvFile)])
    if names is not None:
        note(class_note(names))
    classes = {name: place for place, name in enumerate(names or ())}
    shapes: list[Shape] = []
    files: dict[str, list[SourceFile]] = {name: [] for name, _ in opened}
    for name, file in opened:
        source = file if isinstance(file, CsvFile) else TableFile(file, options, classes)
        shapes.append(image_shape_of(source, options))
        if shapes[-1] != shapes[0]:
            own, first = (" x ".join(map(str, shape)) for shape in (shapes[-1], shapes[0]))
            raise InputError(f"{file.path}: images of {own}, but {opened[0][1].path} has {first}; all need one shape")
        files[name].append(source)
    for name, group in files.items():
        _check_same_roles(name, group)
    return Inputs(files, shapes[0], names)


def image_shape_of(file: CsvFile | TableFile, options: ReadOptions) -> Shape:
    """(height, width, channels) of a file's images.

    Raises:
        InputError: it cannot be inferred, or is not the one given.
    """
    if isinstance(file, TableFile):
        return file.image_shape
    return infer_image_shape(file.first_line, file.columns.num_pixels, options.image_shape)


def _check_same_roles(split: str, files: Sequence[SourceFile]) -> None:
    """Refuse files of one split of which some have labels, or ids, and some have none."""
    for role, given in (("label", [file.has_labels for file in files]), ("id", [file.has_ids for file in files])):
        if len(set(given)) > 1:
            without, with_it = (files[given.index(has)].path for has in (False, True))
            raise InputError(f"{without}: has no {role}, but {with_it} of the same split {split!r} has one")


def _open_all(config: ConvertConfig, note: OnNotice) -> list[tuple[str, Opened]]:
    """(split, file) in the order given, those of one file that a column divides one after another."""
    opened: list[tuple[str, Opened]] = []
    seen: dict[tuple[Identity | str, str | None], str] = {}
    second = collections.defaultdict(list)
    said: set[str] = set()
    for line in config.read.notes:
        note(line)
    for name, path in config.labels:
        second[stored_name(name)].append(as_path(path))
    for name, path in config.splits:
        labels = second[stored_name(name)]
        file = open_file(path, config.read, config.split_column, stored_name(name) or TRAIN, bool(labels))
        key = _identity_of(file)
        if key in seen:
            raise InputError(f"{path}: given twice, for split {seen[key]!r} and for split {name!r}")
        seen[key] = name
        if labels:
            file, line = add_labels(as_table(file), labels.pop(0), config.read)
            note(line)
        for line in file.notes:
            if line not in said:  # of several files the same may be said
                note(line)
            said.add(line)
        opened += _parts_of(file, stored_name(name), config, note)
    for name, left in second.items():
        if left:
            raise InputError(f"--labels {name}={left[0]}: more files of labels than of images")
    return opened


def _identity_of(file: Opened) -> tuple[Identity | str, str | None]:
    """What two sources have in common if they are the same rows: the file, and the array or column of it."""
    path, member = split_member(file.path)
    part = None if isinstance(file, CsvFile) else file.part
    return identify(path) if is_remote(path) or path.is_file() else str(path), part or member


def _parts_of(file: Opened, name: str, config: ConvertConfig, note: OnNotice) -> list[tuple[str, Opened]]:
    """(split, rows of it) of a file: all rows are of the split `name`, unless a column names their splits."""
    divided = None
    if config.split_column is not None and not isinstance(file, CsvFile):  # which has no such column
        divided = divide(file, config.split_column, config.split_map)
    if divided is None:
        if not name:
            raise InputError(f"{file.path}: no column {config.split_column!r}; give it as --split NAME={file.path}")
        return [(name, file)]
    parts, line = divided
    note(line)
    return list(parts.items())


def _check_columns(config: ConvertConfig, opened: Sequence[tuple[str, Opened]]) -> None:
    """Refuse CSVs with other pixels than the first one, and options for columns that none of the files has."""
    plain = [file for _, file in opened if isinstance(file, CsvFile)]
    for other in plain[1:]:
        _check_same_pixels(plain[0], other)
    tables = [file.columns for _, file in opened if file.columns is not None]
    if not tables:
        return
    options = config.read
    wanted = [
        ("--label-column", options.label_column, any(_has_label(file, options.label_column) for _, file in opened)),
        ("--id-column", options.id_column, any(columns.id is not None for columns in tables)),
        ("--split-column", config.split_column, _any_has(tables, config.split_column)),
        *(("--drop-column", name, _any_has(tables, name)) for name in options.drop_column),
        *(("--text-column", name, _any_has(tables, name)) for name in options.text_column),
    ]
    for option, column, is_used in wanted:
        # One file may lack the column, if its split has no labels; if all do, the name is wrong.
        if column is not None and column.lower() != NONE and not is_used:
            names = ", ".join(map(shorten, (tables[0].names or ())[:3]))
            has = f"it has {names}, ..." if names else f"without names, its columns are 0 to {tables[0].count - 1}"
            raise InputError(f"{opened[0][1].path}: no column {column!r} for {option}; {has}")


def _has_label(file: Opened, column: str | None) -> bool:
    """Whether a table has labels, in its own column or in a second file's of this name."""
    in_second = isinstance(file, WithLabels) and file.label_column == column
    return in_second or (file.columns is not None and file.columns.label is not None)


def _any_has(tables: Sequence[Columns], column: str | None) -> bool:
    return column is None or any(column_place(column, columns.names, columns.count) is not None for columns in tables)


def _check_splits(config: ConvertConfig, opened: Sequence[tuple[str, Opened]], note: OnNotice) -> None:
    """Say which names of splits are stored otherwise or not used, and refuse what training could not use."""
    given = opened if config.split_column is not None else config.splits
    for line in split_notes((name for name, _ in given), any(file.has_labels for _, file in opened)):
        note(line)
    config.validation(dict(opened))  # checks that there is such a split
    of_train = [file for name, file in opened if name == TRAIN]
    if of_train and not any(file.has_labels for file in of_train):
        advice = Reader.label_advice if isinstance(of_train[0], CsvFile) else of_train[0].label_advice
        raise InputError(
            f"{of_train[0].path}: no labels, which {TRAIN!r} needs; {advice} "
            f"with --labels {TRAIN}=FILE, or choose another name for a split without labels"
        )


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
