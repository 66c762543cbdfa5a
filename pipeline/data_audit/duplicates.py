"""Images that occur more than once, within and across splits, and under several labels."""

from typing import NamedTuple

import numpy as np

from pipeline.data_audit.scan import RowTable
from pipeline.format.records import UNLABELLED
from pipeline.splits import TRAIN


class Duplicates(NamedTuple):
    """Rows whose image another row has too.

    `rows` int64 [m], those of one image together and ascending; `groups` int64 [m], the number of the image;
    `counts` int64 [groups, splits], the rows of each split; `two_labels` bool [groups].
    """

    rows: np.ndarray
    groups: np.ndarray
    counts: np.ndarray
    two_labels: np.ndarray

    def repeated(self, split: int) -> int:
        """Rows of a split that repeat an earlier row of it."""
        return int(np.maximum(self.counts[:, split] - 1, 0).sum())

    def shared(self, split: int, other: int) -> int:
        """Rows of a split whose image `other` has too."""
        return int(self.counts[self.counts[:, other] > 0, split].sum())


def find_duplicates(table: RowTable) -> Duplicates:
    """All rows with equal images, by their hashes."""
    order = np.lexsort(table.hashes.T)  # stable: rows of one image stay in order
    hashes = table.hashes[order]
    same = np.concatenate([[False], (hashes[1:] == hashes[:-1]).all(axis=1), [False]])
    member = same[1:] | same[:-1]
    rows, groups = _in_order(order[member], np.cumsum(~same[:-1])[member])
    num_groups, num_splits = int(groups.max(initial=-1)) + 1, len(table.names)
    counts = np.bincount(groups * num_splits + table.split_of(rows), minlength=num_groups * num_splits)
    return Duplicates(rows, groups, counts.reshape(num_groups, num_splits), _two_labels(table, rows, groups))


def rows_to_drop(table: RowTable, found: Duplicates) -> np.ndarray:
    """bool [n]: rows of train that another split has too, that repeat an earlier one, or whose image has two labels.

    Rows of other splits stay, because they are scored: each of them needs its prediction.
    """
    dropped = np.zeros(len(table.hashes), bool)
    if TRAIN not in table.names or not len(found.rows):
        return dropped
    train = table.names.index(TRAIN)
    is_train = table.split_of(found.rows) == train
    elsewhere = np.delete(found.counts, train, axis=1).sum(axis=1) > 0
    # Rows of a group ascend, and those of train come first.
    is_first = np.concatenate([[True], found.groups[1:] != found.groups[:-1]])
    dropped[found.rows[is_train & (elsewhere | found.two_labels)[found.groups]]] = True
    dropped[found.rows[is_train & ~is_first]] = True
    return dropped


def _in_order(rows: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same groups, numbered by their first rows rather than by hashes."""
    _, starts, places = np.unique(groups, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(rows[starts]))[places]
    order = np.argsort(ranks, kind="stable")
    return rows[order], ranks[order]


def _two_labels(table: RowTable, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """bool [groups]: whether rows of the group have different labels; rows without a label have none."""
    labels = table.labels[rows]
    known, num_groups = labels != UNLABELLED, int(groups.max(initial=-1)) + 1
    lowest, highest = np.full(num_groups, np.iinfo(np.int32).max), np.full(num_groups, UNLABELLED)
    np.minimum.at(lowest, groups[known], labels[known])
    np.maximum.at(highest, groups[known], labels[known])
    return highest > lowest
