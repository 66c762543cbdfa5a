"""Accuracy per group of rows, as of one writer: the mean, the worst group and the spread."""

from typing import Any, NamedTuple

import numpy as np


class GroupFigures(NamedTuple):
    """`accuracies` of each group in the order of the rows; their unweighted `mean` and standard deviation `std`.

    `std` is that of a sample (divided by the number of groups less one), None for one group. `worst_id` is the id of
    the first row of the worst group, and `worst_rows` how many rows it has.
    """

    accuracies: tuple[float, ...]
    mean: float
    std: float | None
    worst: float
    worst_id: int | str
    worst_rows: int

    def describe(self) -> str:
        """One line for people."""
        spread = "" if self.std is None else f", standard deviation {self.std:.2%}"
        return (
            f"{len(self.accuracies):,} groups: mean {self.mean:.2%}{spread}, "
            f"worst {self.worst:.2%} ({self.worst_rows:,} rows from id {self.worst_id} on)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"num_groups": len(self.accuracies), **self._asdict()}


def measure_groups(correct: np.ndarray, groups: np.ndarray, ids: np.ndarray) -> GroupFigures:
    """The figures of n rows, at least one: bool `correct`, int `groups` and `ids`, all [n]; ids are int or text."""
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    accuracies = np.bincount(inverse, weights=correct) / sizes
    worst = int(accuracies.argmin())
    return GroupFigures(
        accuracies=tuple(accuracies.tolist()),
        mean=float(accuracies.mean()),
        std=float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None,
        worst=float(accuracies[worst]),
        worst_id=ids[first[worst : worst + 1]].tolist()[0],
        worst_rows=int(sizes[worst]),
    )
