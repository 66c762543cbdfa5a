"""Names of splits, and which rows are held out: systematic sampling within each class, or of groups of rows.

Systematic sampling takes one unit out of every 1/f in turn (W. G. Cochran, Sampling Techniques, 3rd ed. 1977, ch. 8).
Here the place within each cell is drawn by a hash of (seed, class, cell), so the choice depends only on the seed, the
fraction and the order of the rows: not on the number of shards, nor on how files were cut while reading.
"""

import fractions
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipeline.errors import InputError

TRAIN, VAL = "train", "val"
HOLDOUT = "holdout"  # rows of train that a training holds out, in its evaluation

# Names that data sets use, in lower case, and the one of ours that they mean.
_STORED_AS = {"validation": VAL, "valid": VAL}
_SIMILAR = {"training": TRAIN, "dev": VAL, "development": VAL, "testing": "test"}
_OF_VALUES = {
    **{TRAIN: TRAIN, VAL: VAL, "test": "test", "publictest": VAL, "privatetest": "test"},  # the last two: FER2013
    **_STORED_AS,
    **_SIMILAR,
}

_MAX_DENOMINATOR = 10**6  # keeps row * numerator below 2**63


def stored_name(name: str) -> str:
    """The name under which a split is stored: `val` for validation and valid, else its own."""
    return _STORED_AS.get(name.lower(), name)


def similar_name(name: str) -> str | None:
    """The split that trains, validates or tests, if this one probably should; None if its name means nothing else."""
    lower = name.lower()
    meant = _SIMILAR.get(lower, lower if lower in _OF_VALUES else None)
    return None if meant == name else meant


def split_notes(names: Iterable[str], have_labels: bool) -> Iterator[str]:
    """What to report of the names of splits, a line each: those stored otherwise, and those that train.py ignores."""
    names = list(dict.fromkeys(names))
    for name in names:
        if stored_name(name) != name:
            yield f"split {name!r} is stored as {stored_name(name)!r}, the name that train.py looks for"
        elif (similar := similar_name(name)) is not None:
            yield f"split {name!r}: train.py trains on {TRAIN!r} and validates on {VAL!r}; is it {similar!r}?"
    if have_labels and not {TRAIN, *_OF_VALUES.values()} & {similar_name(name) or stored_name(name) for name in names}:
        yield f"no split is called {TRAIN!r}, which train.py trains on; there is {', '.join(map(repr, names))}"


def split_of_value(value: str) -> str | None:
    """The split that a value of a column names, by usual names; None for any other value."""
    return _OF_VALUES.get(value.strip().lower())


class ValidationSampler:
    """Draws the share `fraction` of each class, within one row; state advances with each `select`.

    With `group_size` G the unit is a group of G consecutive rows of a file, kept together whatever their classes.

    Raises:
        InputError: the fraction or the group size is out of range.
    """

    def __init__(self, fraction: float, seed: int, group_size: int | None = None) -> None:
        exact = fractions.Fraction(str(fraction)).limit_denominator(_MAX_DENOMINATOR)
        if not 0 < exact < 1:
            raise InputError(f"validation fraction {fraction} must lie between 0 and 1, in steps of a millionth")
        if group_size is not None and group_size < 1:
            raise InputError(f"validation group size {group_size} must be 1 or more")
        self._numerator, self._denominator = exact.numerator, exact.denominator
        self._seed = np.uint64(seed % 2**64)
        self._group_size = group_size
        self._num_seen: dict[int, int] = {}  # rows of each class so far
        self._first_group = self._row = 0

    def start_file(self) -> None:
        """Rows of the next file follow: a group ends with its file, since two files are not one writer's."""
        self._first_group += -(-self._row // (self._group_size or 1))
        self._row = 0

    def select(self, labels: np.ndarray) -> np.ndarray:
        """bool [n]: True for the validation rows among the next n rows of the file, with labels int64 [n]."""
        row, self._row = self._row, self._row + len(labels)
        if self._group_size is not None:
            groups = self._first_group + np.arange(row, self._row) // self._group_size
            return self._is_drawn(np.zeros_like(groups), groups)  # one stratum: a group has rows of many classes
        order = np.argsort(labels, kind="stable")
        sorted_labels = labels[order]
        starts = np.flatnonzero(np.diff(sorted_labels, prepend=sorted_labels[:1] - 1))
        counts = np.diff(starts, append=len(labels))
        classes = sorted_labels[starts].tolist()
        before = np.array([self._num_seen.get(label, 0) for label in classes], np.int64)
        self._num_seen.update(zip(classes, (before + counts).tolist(), strict=True))
        ranks = np.empty(len(labels), np.int64)
        ranks[order] = np.arange(len(labels)) + np.repeat(before - starts, counts)
        return self._is_drawn(labels, ranks)

    def _is_drawn(self, strata: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Whether the unit of each rank (int64 [n], from 0 within its stratum) is the one drawn in its cell."""
        cells = ranks * self._numerator // self._denominator
        starts = -(-cells * self._denominator // self._numerator)
        stops = -(-(cells + 1) * self._denominator // self._numerator)
        draws = splitmix64(splitmix64(splitmix64(self._seed) ^ strata.view(np.uint64)) ^ cells.view(np.uint64))
        return ranks - starts == (draws % (stops - starts).astype(np.uint64)).astype(np.int64)


def splitmix64(values: Any) -> Any:
    """A hash of uint64 values, for draws that no release of NumPy changes.

    Source: S. Vigna, https://prng.di.unimi.it/splitmix64.c
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the method
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
