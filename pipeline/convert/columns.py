"""Which column of a CSV is the label, the id or a pixel: from its header, or from options."""

import collections
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Sequence

import numpy as np

from pipeline.errors import InputError, shorten
from pipeline.format.manifest import MAX_NAME

LABEL_NAMES = ("label", "labels", "class", "target", "digit", "y")
ID_NAMES = ("id", "imageid", "image_id", "index")
NONE = "none"  # as a column option: there is no such column
_NUMBER = re.compile("[0-9]+")
MAX_COLUMNS = 1 << 19  # bounds the memory of one row and of the header; an image of 724 x 724 fits


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of one file: `label` and `id` are indices or None, all the others are pixels, row-major."""

    count: int
    label: int | None = None
    id: int | None = None
    names: tuple[str, ...] | None = None

    @functools.cached_property
    def pixels(self) -> slice | np.ndarray:
        """Index of the pixels within a row: a slice if they are adjacent, which NumPy reads without a copy."""
        indices = [k for k in range(self.count) if k not in (self.label, self.id)]
        if indices and indices[-1] - indices[0] == len(indices) - 1:
            return slice(indices[0], indices[-1] + 1)
        return np.array(indices, np.intp)

    @property
    def num_pixels(self) -> int:
        return self.count - (self.label is not None) - (self.id is not None)

    @property
    def pixel_names(self) -> tuple[str, ...] | None:
        if self.names is None:
            return None
        return tuple(name for k, name in enumerate(self.names) if k not in (self.label, self.id))

    def key(self, column: int | None) -> str | None:
        """The option that selects a column again: its name or, without a header, its index."""
        if column is None:
            return None
        return str(column) if self.names is None else self.names[column]

    def describe(self, column: int) -> str:
        """How messages name a column: by its name, or by its index as the options count it."""
        if self.names is None:
            return f"column {column} (counted from 0)"
        return f"column {shorten(self.names[column])}"


def find_columns(
    where: str, fields: Sequence[str], has_header: bool, label_column: str | None, id_column: str | None
) -> Columns:
    """Find label, id and pixels from the fields of a file's first line.

    Args:
        where: the start of messages, such as "train.csv, line 1".
        fields: the first line's fields; without a header only their number matters.
        has_header: whether they are names.
        label_column: a name, a 0-based index, "none", or None to look for one of LABEL_NAMES.
        id_column: the same for the id and ID_NAMES.

    Raises:
        InputError: a name is missing, repeated or ambiguous, or pixel columns are out of order.
    """
    if len(fields) > MAX_COLUMNS:
        raise InputError(f"{where}: {len(fields)} columns, at most {MAX_COLUMNS} are supported")
    names = tuple(field.strip() for field in fields) if has_header else None
    if names:
        _check_names(where, names)
    label = _find(where, names, len(fields), "label", label_column, LABEL_NAMES)
    identity = _find(where, names, len(fields), "id", id_column, ID_NAMES)
    if label is not None and label == identity:
        raise InputError(f"{where}: column {label} is both label and id; give --label-column and --id-column")
    columns = Columns(len(fields), label, identity, names)
    if columns.num_pixels < 1:
        raise InputError(f"{where}: no pixel columns besides label and id")
    if names:
        _check_pixel_names(where, columns)
    return columns


def infer_image_shape(
    where: str, num_pixels: int, given: tuple[int, int, int] | None, planes: bool = False
) -> tuple[int, int, int]:
    """(height, width, channels) of `num_pixels` values: as given, a square of one channel, or of three if in planes.

    Raises:
        InputError: the count does not fit.
    """
    if given is not None:
        if math.prod(given) != num_pixels:
            shape = "x".join(map(str, given))
            raise InputError(f"{where}: {num_pixels} pixel columns, but --image-shape {shape} needs {math.prod(given)}")
        return given
    channels = 3 if planes and num_pixels % 3 == 0 else 1
    side = math.isqrt(num_pixels // channels)
    if side * side * channels == num_pixels:
        return side, side, channels
    raise InputError(f"{where}: {num_pixels} pixel columns are not a square image; {_shape_advice(num_pixels)}")


def _shape_advice(num_pixels: int) -> str:
    # A column or two more than a square are probably a label and an id with unusual names.
    for extra in (1, 2):
        if num_pixels > 4 and math.isqrt(num_pixels - extra) ** 2 == num_pixels - extra:
            return "is one of them the label or an id? give --label-column or --id-column, or else --image-shape H W C"
    side = math.isqrt(num_pixels // 3)
    if side * side * 3 == num_pixels:
        return f"give --image-shape H W C, for instance --image-shape {side} {side} 3"
    return "give --image-shape H W C"


def _check_names(where: str, names: tuple[str, ...]) -> None:
    seen: dict[str, int] = {}
    for column, name in enumerate(names):
        if len(name) > MAX_NAME:
            raise InputError(f"{where}: the name of column {column} (counted from 0) is over {MAX_NAME} characters")
        if name == "":
            raise InputError(f"{where}: column {column} (counted from 0) has no name; name it or remove it")
        if name in seen:
            hint = "; if this line is data, use --no-header" if all(map(str.isdigit, names)) else ""
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
        raise InputError(f"{where}: {several} could each be the {role}; choose one with --{role}-column")
    return matches[0][0] if matches else None


def _given(
    where: str, names: tuple[str, ...] | None, count: int, role: str, given: str, known: tuple[str, ...]
) -> int | None:
    # First, because a column may itself be called "1" or "none".
    if names and given in names:
        return names.index(given)
    if given.lower() == NONE:
        return None
    if given.isascii() and given.isdigit():
        # By its length first: int() refuses thousands of digits with an error of its own.
        if len(given) > len(str(MAX_COLUMNS)) or int(given) >= count:
            raise InputError(f"{where}: --{role}-column {given}, but the columns are 0 to {count - 1}")
        return int(given)
    if names is None:
        raise InputError(f"{where}: --{role}-column {given!r} is a name, but there is no header; give a 0-based index")
    known_names = [name for name in names if name.lower() in known]
    if known_names:
        raise InputError(f"{where}: no column {given!r} for --{role}-column; did you mean {known_names[0]!r}?")
    return None  # a split without labels lacks it; whether every file does is checked over all files


def _check_pixel_names(where: str, columns: Columns) -> None:
    """Names like pixel0.. or 1x1..28x28 must count up without gaps, the last number fastest: row-major order."""
    names = columns.pixel_names or ()
    # Without its own #, which would look like the place of a number.
    patterns = [_NUMBER.sub("#", name.replace("#", "")) for name in names]
    pattern, times = collections.Counter(patterns).most_common(1)[0]
    # Names that mostly share no pattern say nothing about the order.
    if "#" not in pattern or times < 2 or times * 2 <= len(names):
        return
    for name, own_pattern in zip(names, patterns, strict=True):
        if own_pattern != pattern:
            example = names[patterns.index(pattern)]
            raise InputError(
                f"{where}: extra column {shorten(name)}: not a pixel like {shorten(example)}; remove it, or if it "
                f"is the label or the id select it with --label-column or --id-column"
            )
    numbers = [tuple(map(int, _NUMBER.findall(name))) for name in names]
    # An axis is at most as long as the list of names, however large a number one of them has.
    ranges = [range(min(axis), min(max(axis), min(axis) + len(names)) + 1) for axis in zip(*numbers, strict=True)]
    for name, place, expected in zip(names, numbers, itertools.product(*ranges), strict=False):
        if place != expected:
            start, *parts = pattern.split("#")
            wanted = start + "".join(f"{number}{part}" for number, part in zip(expected, parts, strict=True))
            raise InputError(
                f"{where}: pixel columns out of order: {shorten(name)} in the place of {shorten(wanted)}; "
                f"put them in row-major order without gaps"
            )
