"""Which column of a CSV is the label, the id or a pixel: from its header, or from options."""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import numpy as np

from pipeline.convert.csv.pixel_names import channel_order, check_pixel_names
from pipeline.errors import InputError, list_few, shorten
from pipeline.format.manifest import MAX_NAME

LABEL_NAMES = ("label", "labels", "class", "target", "digit", "y", "character", "letter", "emotion", "category")
ID_NAMES = ("id", "imageid", "image_id", "index", "filename", "file_name", "image_name")
NONE = "none"  # as a column option: there is no such column
INDEX_NAME = re.compile(r"|Unnamed: 0")  # of the column that pandas writes for its index
_IS_NUMBER = re.compile(r"[0-9.+eE-]*[0-9][0-9.+eE-]*")
MAX_COLUMNS = 1 << 19  # bounds the memory of one row and of the header; an image of 724 x 724 fits


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of one file: `label` and `id` are indices or None, `others` hold neither; the rest are pixels.

    `notes` say what was guessed. `layout` is that of `pixel_names.channel_order`.
    """

    count: int
    label: int | None = None
    id: int | None = None
    names: tuple[str, ...] | None = None
    others: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def pixels(self) -> slice | np.ndarray:
        """Index of the pixels within a row: a slice if they are adjacent, which NumPy reads without a copy."""
        indices = self.pixel_indices
        if indices and indices[-1] - indices[0] == len(indices) - 1:
            return slice(indices[0], indices[-1] + 1)
        return np.array(indices, np.intp)

    @functools.cached_property
    def pixel_indices(self) -> list[int]:
        used = {self.label, self.id, *self.others}
        return [k for k in range(self.count) if k not in used]

    @property
    def num_pixels(self) -> int:
        return len(self.pixel_indices)

    @property
    def pixel_names(self) -> tuple[str, ...] | None:
        if self.names is None:
            return None
        return tuple(self.names[k] for k in self.pixel_indices)

    @functools.cached_property
    def layout(self) -> str | None:
        return channel_order(self.pixel_names) if self.pixel_names else None

    def key(self, column: int | None) -> str | None:
        """The option that selects a column again: its name or, without a header, its index."""
        if column is None:
            return None
        return str(column) if self.names is None else self.names[column] or str(column)

    def option(self, column: int) -> str:
        """How messages write a column behind an option: its name if that is short and plain, else its index."""
        name = self.key(column) or ""
        return name if name.isprintable() and " " not in name and len(name) < 40 else str(column)

    def describe(self, column: int) -> str:
        """How messages name a column: by its name, or by its index as the options count it."""
        if self.names is None or not self.names[column]:
            return f"column {column} (counted from 0)"
        return f"column {shorten(self.names[column])}"


def find_columns(
    where: str,
    fields: Sequence[str],
    has_header: bool,
    label_column: str | None,
    id_column: str | None,
    others: Sequence[int] = (),
    only_images: bool = True,
) -> Columns:
    """Find label, id and pixels from the fields of a file's first line.

    Args:
        where: the start of messages, such as "train.csv, line 1".
        fields: the first line's fields; without a header only their number matters.
        has_header: whether they are names.
        label_column: a name, a 0-based index, "none", or None to look for one of LABEL_NAMES.
        id_column: the same for the id and ID_NAMES, or the column without a name that pandas writes first.
        others: columns that are neither label nor id nor pixels.
        only_images: whether there must be other columns, whose names are those of an image's pixels.

    Raises:
        InputError: a name is missing, repeated or ambiguous, or pixel columns are out of order.
    """
    if len(fields) > MAX_COLUMNS:
        raise InputError(f"{where}: {len(fields)} columns, at most {MAX_COLUMNS} are supported")
    names = tuple(field.strip() for field in fields) if has_header else None
    if names:
        _check_names(where, names, others)
    free = tuple("" if k in others else name for k, name in enumerate(names)) if names and others else names
    label = _find(where, free, len(fields), "label", label_column, LABEL_NAMES)
    identity = _find(where, free, len(fields), "id", id_column, ID_NAMES)
    if label is not None and label == identity:
        raise InputError(f"{where}: column {label} is both label and id; give --label-column and --id-column")
    notes: tuple[str, ...] = ()
    if names and INDEX_NAME.fullmatch(names[0]) and 0 not in (label, identity, *others):
        is_id = identity is None and id_column is None
        identity, others = (0, others) if is_id else (identity, (0, *others))
        # Written and read twice, there are two of them.
        others = (*others, *(k for k in (1,) if k < len(names) and INDEX_NAME.fullmatch(names[k])))
        notes = (_index_note(where, names[0], is_id),)
    columns = Columns(len(fields), label, identity, names, tuple(others), notes)
    if columns.num_pixels < 1 and only_images:
        raise InputError(f"{where}: no pixel columns besides label and id")
    if names and only_images:
        check_pixel_names(where, columns.pixel_names or ())
    return columns


def column_place(name: str, names: Sequence[str] | None, count: int) -> int | None:
    """Index of a column by its name or index; None if there is none of that name."""
    # First, because a column may itself be called "1".
    if names and name in names:
        return names.index(name)
    # By its length first: int() refuses thousands of digits with an error of its own.
    if name.isascii() and name.isdigit() and len(name) <= len(str(MAX_COLUMNS)) and int(name) < count:
        return int(name)
    return None


def named_column(where: object, role: str, given: str | None, names: Sequence[str]) -> str | None:
    """The column that the option of a role names, by name or 0-based index; None for "none" and if it is not given."""
    if given is None or (given.lower() == NONE and given not in names):
        return None
    place = column_place(given, names, len(names))
    if place is None:
        raise InputError(f"{where}: no column {given!r} for --{role}-column; it has {list_few(names, 8)}")
    return names[place]


def unwanted_columns(names: Sequence[str] | None, label_column: str | None, id_column: str | None) -> list[int]:
    """Columns whose names are those of labels or ids, if "none" is asked for."""
    found = []
    for given, known in ((label_column, LABEL_NAMES), (id_column, ID_NAMES)):
        if names and given is not None and given.lower() == NONE and given not in names:
            found += [k for k, name in enumerate(names) if name.lower() in known]
    return found


def infer_image_shape(
    where: str, num_pixels: int, given: tuple[int, int, int] | None, planes: bool = False
) -> tuple[int, int, int]:
    """(height, width, channels) of `num_pixels` values: as given, or a square of one channel, in planes of 3, 4 or 2.

    Raises:
        InputError: the count does not fit.
    """
    if given is not None:
        if math.prod(given) != num_pixels:
            shape = "x".join(map(str, given))
            raise InputError(f"{where}: {num_pixels} pixel columns, but --image-shape {shape} needs {math.prod(given)}")
        return given
    for channels in (3, 4, 2) if planes else (1,):
        side = math.isqrt(num_pixels // channels)
        if side * side * channels == num_pixels:
            return side, side, channels
    raise InputError(f"{where}: {num_pixels} pixel columns are not a square image; {_shape_advice(num_pixels)}")


def _shape_advice(num_pixels: int) -> str:
    # A column or two more than a square are probably a label and an id with unusual names.
    for extra in (1, 2):
        if num_pixels > 4 and math.isqrt(num_pixels - extra) ** 2 == num_pixels - extra:
            return "if one is no pixel, give --label-column, --id-column or --drop-column, else --image-shape H W C"
    side = math.isqrt(num_pixels // 3)
    if side * side * 3 == num_pixels:
        return f"give --image-shape H W C, for instance --image-shape {side} {side} 3, and --layout CHW for planes"
    return "give --image-shape H W C"


def _index_note(where: str, name: str, is_id: bool) -> str:
    called = f"is {name!r}" if name else "has no name"
    role = "taken as id, which --id-column none ignores" if is_id else "ignored"
    return f"{where}: column 0 {called}, as the index that pandas writes: {role}"


def _check_names(where: str, names: tuple[str, ...], others: Sequence[int]) -> None:
    seen: dict[str, int] = {}
    for column, name in enumerate(names):
        if len(name) > MAX_NAME:
            raise InputError(f"{where}: the name of column {column} (counted from 0) is over {MAX_NAME} characters")
        if name == "" and column and column not in others:  # pandas writes its index first, without a name
            raise InputError(
                f"{where}: column {column} (counted from 0) has no name; name it, or ignore it with --drop-column "
                f"{column}"
            )
        if name in seen and column not in others:
            numbers = sum(_IS_NUMBER.fullmatch(name) is not None for name in names)
            hint = "; if this line is data, use --no-header" if numbers >= len(names) - 2 else ""
            raise InputError(
                f"{where}: column name {shorten(name)} is repeated (columns {seen[name]} and {column}){hint}"
            )
        seen[name] = column


def _find(
    where: str, names: tuple[str, ...] | None, count: int, role: str, given: str | None, known: tuple[str, ...]
) -> int | None:
    if given is not None:
        return _given(where, names, count, role, given, known)
    matches = [(k, name) for k, name in enumerate(names or ()) if name.lower() in known]
    if len(matches) > 1:
        several = " and ".join(repr(name) for _, name in matches)
        raise InputError(
            f"{where}: {several} could each be the {role}; choose one with --{role}-column, and ignore others with "
            "--drop-column"
        )
    return matches[0][0] if matches else None


def _given(
    where: str, names: tuple[str, ...] | None, count: int, role: str, given: str, known: tuple[str, ...]
) -> int | None:
    place = column_place(given, names, count)
    if place is not None or given.lower() == NONE:
        return place
    if given.isascii() and given.isdigit():
        raise InputError(f"{where}: --{role}-column {given}, but the columns are 0 to {count - 1}")
    if names is None:
        raise InputError(f"{where}: --{role}-column {given!r} is a name, but there is no header; give a 0-based index")
    known_names = [name for name in names if name.lower() in known]
    if known_names:
        raise InputError(f"{where}: no column {given!r} for --{role}-column; did you mean {known_names[0]!r}?")
    return None  # a split without labels lacks it; whether every file does is checked over all files
