"""Which rows a training holds out for its validation: a pure function of the labels and of a text such as `first:100`.

The texts (`--holdout`), for the rows of the split `train`:

- `split`: no row; the data set's own split `val` is the validation;
- `none`: no row, and no validation; `final`: neither, and the split `val` is trained on too (`--final`);
- `random:0.1`: a tenth of each class, or with a group size of the groups; `random:0.1:7` with the seed 7 (default 0);
- `first:N`, `last:N`: N rows;
- `fold:K/N`: part K (from 0) of N disjoint ones, stratified or of whole groups; `fold:K/N:SEED` likewise.

The seed is part of the text, so that runs of different `--seed` are compared on the same rows. A group is G consecutive
rows of the split `train`, as those of one writer; it is never divided.
"""

import dataclasses
import functools
import pathlib
import re
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError, shorten
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.format.manifest import Manifest
from pipeline.splits import HOLDOUT, TRAIN, VAL, ValidationSampler, splitmix64

_SPLIT, _NONE, _FINAL = "split", "none", "final"
_PATTERN = re.compile(
    rf"{_SPLIT}|{_NONE}|{_FINAL}"
    r"|random:0?\.[0-9]{1,6}(:[0-9]{1,19})?"
    r"|(first|last):[0-9]{1,18}"
    r"|fold:[0-9]{1,9}/[0-9]{1,9}(:[0-9]{1,19})?"
)


@dataclasses.dataclass(frozen=True)
class Holdout:
    """A validated text, and the rows of a group if they come in groups.

    Raises:
        InputError: the text is none of those above, or a number in it is out of range.
    """

    text: str
    group_size: int | None = None

    def __post_init__(self) -> None:
        if not _PATTERN.fullmatch(self.text):
            forms = "split, none, random:FRACTION, first:ROWS, last:ROWS or fold:K/N"
            raise InputError(f"--holdout {shorten(self.text)}: give {forms}, such as random:0.1")
        kind, numbers = self._parts
        if kind == "random":
            self._draw(np.zeros(0, np.int64))  # checks the fraction
        if kind == "fold" and not int(numbers[0]) < int(numbers[1]) > 1:
            raise InputError(f"--holdout {self.text}: there are at least 2 folds, numbered from 0")

    @classmethod
    def choose(cls, text: str | None, final: bool, group_size: int | None, manifest: Manifest) -> "Holdout":
        """What to hold out of this data set if `text` may be None, by default: its split `val`, or no row.

        Raises:
            InputError: the split `val` is requested and there is none with labels, or groups are no longer whole.
        """
        default, drawn = cls.default(manifest), manifest.validation
        if group_size is not None and drawn.fraction and drawn.group_size != group_size:
            raise InputError(
                f"--group-size {group_size}: rows were drawn out of the groups of {manifest.name} by its conversion; "
                f"convert without --val-fraction, or with --val-group-size {group_size}"
            )
        if text == _SPLIT != default:
            raise InputError(
                f"--holdout split: {manifest.name} has no labelled split {VAL!r}; convert with --val-fraction, "
                "or use --holdout random:0.1"
            )
        if HOLDOUT in manifest.splits and text not in (None, _SPLIT, _NONE):
            raise InputError(
                f"--holdout {text}: {manifest.name} has a split named {HOLDOUT!r}, as the evaluation names these rows; "
                "convert it under another name"
            )
        if final:
            text = _NONE if default == _NONE else _FINAL
        return cls(text or default, group_size)

    @staticmethod
    def default(manifest: Manifest) -> str:
        """The text for a data set if none is given."""
        split = manifest.splits.get(VAL)
        return _SPLIT if split is not None and split.labelled else _NONE

    @property
    def from_train(self) -> bool:
        """Whether rows of the split `train` are held out."""
        return self.text not in (_SPLIT, _NONE, _FINAL)

    @property
    def in_memory(self) -> bool:
        """Whether `load_rows` divides or joins splits, for which `train` must fit in memory."""
        return self.from_train or self.trains_on_val

    @property
    def uses_val(self) -> bool:
        """Whether the split `val` is the validation."""
        return self.text == _SPLIT

    @property
    def trains_on_val(self) -> bool:
        """Whether the split `val` is trained on."""
        return self.text == _FINAL

    def rows(self, labels: np.ndarray) -> np.ndarray:
        """The rows held out, int64 ascending, of the split `train` with these labels int [n].

        How many they are depends on the number of rows of each class alone, not on their order.

        Raises:
            InputError: no row would be held out or left to train on, or a group would be divided.
        """
        if not self.from_train:
            return np.zeros(0, np.int64)
        rows = np.flatnonzero(self._is_held(labels))
        if not 0 < len(rows) < len(labels):
            raise InputError(
                f"--holdout {self.describe()}: {len(rows):,} of {len(labels):,} training rows would be held out; "
                "hold out at least one, and leave one to train on"
            )
        return rows

    def num_rows(self, class_counts: tuple[int, ...]) -> int:
        """How many rows are held out of a split with so many rows of each class; raises as `rows`."""
        return len(self.rows(np.repeat(np.arange(len(class_counts)), class_counts)))

    def describe(self) -> str:
        """The text, with the group size if the choice of rows depends on it."""
        drawn = self.group_size is not None and self._parts[0] in ("random", "fold")
        return f"{self.text} in groups of {self.group_size}" if drawn else self.text

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        """The group of each of these rows of a split, int64 [n]; None without a group size."""
        return None if self.group_size is None else rows // self.group_size

    @functools.cached_property
    def _parts(self) -> tuple[str, list[str]]:
        """The kind, and the numbers after it."""
        kind, *numbers = re.split("[:/]", self.text)
        return kind, numbers

    def _is_held(self, labels: np.ndarray) -> np.ndarray:
        """bool [n]: which rows are held out."""
        kind, numbers = self._parts
        if kind == "random":
            return self._draw(labels.astype(np.int64))
        if kind == "fold":
            fold, folds, seed = map(int, [*numbers, "0"][:3])
            return fold_of(labels, folds, seed, self.group_size) == fold
        count, row = min(int(numbers[0]), len(labels)), np.arange(len(labels))
        border = count if kind == "first" else len(labels) - count
        whole = border - border % (self.group_size or 1)
        if border not in (whole, len(labels)):
            near = max(whole, self.group_size or 1) if kind == "first" else len(labels) - whole
            raise InputError(f"--holdout {self.text} would divide a group of {self.group_size} rows; use {kind}:{near}")
        return row < border if kind == "first" else row >= border

    def _draw(self, labels: np.ndarray) -> np.ndarray:
        fraction, seed = [*self._parts[1], "0"][:2]
        return ValidationSampler(float(fraction), int(seed), self.group_size).select(labels)


def fold_of(labels: np.ndarray, folds: int, seed: int = 0, group_size: int | None = None) -> np.ndarray:
    """The fold of each row, int64 [n] in 0..folds-1, for labels int [n].

    Rows are sorted by class, within a class by a hash of (seed, row), and dealt in turn: sizes of folds differ by one
    at most, and so do the rows that a class has in them. With a group size, groups are dealt likewise, as one class.

    Raises:
        InputError: there are fewer rows, or groups, than folds.
    """
    rows = np.arange(len(labels))
    unit = rows // (group_size or 1)
    strata = np.zeros(unit.max(initial=-1) + 1, np.int64) if group_size else labels
    if len(strata) < folds:
        units = "training rows" if group_size is None else f"groups of {group_size} rows"
        raise InputError(f"{folds} folds need as many {units}, and there are {len(strata):,}; use fewer folds")
    order = np.lexsort((splitmix64(splitmix64(np.uint64(seed)) ^ np.arange(len(strata), dtype=np.uint64)), strata))
    fold = np.empty(len(strata), np.int64)
    fold[order] = np.arange(len(strata)) % folds
    return fold[unit]


class LoadedRows(NamedTuple):
    """The rows to train on, those held out of `train` (None if none are), and their rows in it, int64 [n]."""

    train: SplitArrays
    held: SplitArrays | None
    held_rows: np.ndarray


def load_rows(directory: str | pathlib.Path, manifest: Manifest, holdout: Holdout) -> LoadedRows:
    """Read the split `train`, and divide it; raises as `load_split` and `Holdout.rows`."""
    arrays = load_split(directory, manifest, TRAIN, *[VAL] * holdout.trains_on_val)
    rows = holdout.rows(arrays.labels)
    if not len(rows):
        return LoadedRows(arrays, None, rows)
    held = arrays.select(rows)
    return LoadedRows(arrays.keep(np.delete(np.arange(len(arrays)), rows)), held, rows)
