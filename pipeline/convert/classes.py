"""The classes of a conversion whose labels are names: those of all its files, in one order."""

from collections.abc import Sequence

from pipeline.convert.table import Reader
from pipeline.errors import InputError, list_few, shorten
from pipeline.format.manifest import MAX_CLASSES
from pipeline.format.manifest_rules import is_class_name


def find_class_names(readers: Sequence[Reader]) -> tuple[str, ...] | None:
    """Names of the classes, sorted unless a file states their order and has all of them; None if labels are numbers.

    Raises:
        InputError: there are too many, one cannot be shown on a line, or one file has numbers and another names.
    """
    names: set[str] = set()
    with_names: list[Reader] = []
    with_numbers: list[Reader] = []
    for reader in (reader for reader in readers if reader.has_labels):
        own = _names_of(reader)
        (with_numbers if own is None else with_names).append(reader)
        names |= own or set()
    if not with_names:
        return None
    if with_numbers:
        raise InputError(f"{with_numbers[0].path}: its labels are numbers, but those of {with_names[0].path} are names")
    for name in names:
        if not is_class_name(name):
            raise InputError(f"{with_names[0].path}: class name {shorten(name)}: use 1 to 255 printable characters")
    stated = [reader.class_names for reader in with_names if reader.class_names is not None]
    return next((order for order in stated if set(order) == names), tuple(sorted(names)))


def class_note(names: Sequence[str]) -> str:
    """How a conversion reports that labels are names."""
    return f"labels are names, which become classes in this order: {list_few(list(map(repr, names)), 5)}"


def _names_of(reader: Reader) -> set[str] | None:
    """The different labels of a reader, or None if they are numbers."""
    if reader.class_names is not None:
        return set(reader.class_names)
    names: set[str] = set()
    for labels in reader.labels():
        if labels.dtype != object:
            return None
        names.update(labels.tolist())
        if len(names) > MAX_CLASSES:
            raise InputError(
                f"{reader.path}: over {MAX_CLASSES:,} different labels; is the label column the right one?"
            )
    return names


def has_class_names(reader: Reader) -> bool:
    """Whether labels are names, as the first ones show."""
    if not reader.has_labels or reader.class_names is not None:
        return reader.has_labels
    first = next(iter(reader.labels()), None)
    return first is not None and first.dtype == object
