"""Rows of other splits that nearly are rows of train."""

from collections.abc import Callable

import numpy as np

from pipeline.data_audit.perceptual import MIN_CORRELATION, NearPairs, close_pairs, correlations, hashes_of
from pipeline.data_audit.scan import RowTable

_COMPARED = 4096  # pairs of images at a time
_MIN_COARSE = 0.95  # correlation of differences, without which pixels are not read


def find_near(table: RowTable, base: str) -> NearPairs:
    """The nearest row of the split `base` for each row of another that has one, without equal images.

    `table` has differences. Of equal images only the first row is compared.
    """
    assert table.differences is not None
    hashes = hashes_of(table.differences)
    firsts = np.sort(np.unique(table.hashes, axis=0, return_index=True)[1])
    of_base = table.rows_of(base)
    inside = (firsts >= of_base.start) & (firsts < of_base.stop)
    base_rows, others = firsts[inside], firsts[~inside]
    # An image that occurs first in another split is in base too: both are then one row of `firsts`, and an exact match.
    first, second, distances = close_pairs(hashes[base_rows], hashes[others])
    pairs = NearPairs(others[first], base_rows[second], distances, np.empty(len(first), np.float32))
    pairs = _correlated(pairs, table.differences.__getitem__, _MIN_COARSE)
    return _nearest(_correlated(pairs, table.images, MIN_CORRELATION))


def _correlated(pairs: NearPairs, values_of: Callable[[np.ndarray], np.ndarray], minimum: float) -> NearPairs:
    """The pairs whose rows of values correlate so much."""
    for start in range(0, len(pairs.others), _COMPARED):
        part = slice(start, start + _COMPARED)
        pairs.correlations[part] = correlations(values_of(pairs.others[part]), values_of(pairs.base[part]))
    kept = pairs.correlations >= minimum
    return NearPairs(*(values[kept] for values in pairs))


def _nearest(pairs: NearPairs) -> NearPairs:
    """Only the pair with the highest correlation of each row."""
    order = np.lexsort((-pairs.correlations, pairs.others))
    others = pairs.others[order]
    is_first = np.concatenate([[True], others[1:] != others[:-1]])[: len(others)]
    return NearPairs(*(values[order][is_first] for values in pairs))
