"""Near-duplicates: images whose difference hashes and pixels almost agree.

The difference hash has a bit for each of 8 x 8 places: whether brightness grows from there to the right, more than it
does in the median image. (N. Krawetz, Kind of Like That, 2013, compares with 0; glyphs on an even background would then
share most bits.) Two hashes that differ in at most three bits agree in one of four bands of 16 bits, so only rows that
share a band are compared.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

NUM_BITS = 64
MAX_DISTANCE = 3  # bits
MIN_CORRELATION = 0.98  # of pixels; the nearest of 60,000 digits of other people reach about 0.95

_SIDE, _BANDS = 8, 4
_SCALE = 8  # units of a grey level
_MARGIN = 4 * _SCALE  # noise on an even background must not set bits
_PAIRS = 1 << 21  # compared at a time, which bounds the memory
_BITS_OF = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)


class NearPairs(NamedTuple):
    """Row `others`[k] is nearly row `base`[k]; `distances` in bits, `correlations` of the pixels, all [pairs]."""

    others: np.ndarray
    base: np.ndarray
    distances: np.ndarray
    correlations: np.ndarray


def differences(images: np.ndarray) -> np.ndarray:
    """int16 [n, 64]: growth of brightness to the right at 8 x 8 places of images uint8 [n, H, W, C]."""
    height, width = images.shape[1:3]
    gray = images.mean(axis=3, dtype=np.float32) if images.shape[3] > 1 else images[..., 0]
    rows, columns = np.arange(_SIDE) * height // _SIDE, np.arange(_SIDE + 1) * width // (_SIDE + 1)
    # An image with fewer pixels than places gives some of them twice: reduceat then takes the single pixel.
    sums = np.add.reduceat(np.add.reduceat(gray, rows, axis=1, dtype=np.float32), columns, axis=2)
    areas = np.outer(_lengths(rows, height), _lengths(columns, width))
    means = sums / areas.astype(np.float32)
    return np.rint(_SCALE * np.diff(means, axis=2)).astype(np.int16).reshape(len(images), NUM_BITS)


def hashes_of(values: np.ndarray) -> np.ndarray:
    """uint64 [n]: the hash of each row of `differences`, int16 [n, 64]; comparable within one call."""
    bits = values > np.median(values, axis=0) + _MARGIN
    # Neighbours say the same, so a band takes every fourth place.
    order = np.concatenate([np.arange(band, NUM_BITS, _BANDS) for band in range(_BANDS)])
    return np.packbits(np.ascontiguousarray(bits[:, order]), axis=1).view(np.uint64)[:, 0]


def close_pairs(base: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places in others, places in base, distances) of all pairs of hashes uint64 [n] at most MAX_DISTANCE apart."""
    parts = [(np.empty(0, np.int64),) * 3]
    base_bands, other_bands = (
        np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, _BANDS) for hashes in (base, others)
    )
    for band in range(_BANDS):
        order = np.argsort(base_bands[:, band], kind="stable")
        keys, in_order = base_bands[order, band], base[order]
        wanted = other_bands[:, band]
        lows, highs = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        for first, second in _expand(lows, highs):
            distances = _count_bits(in_order[second] ^ others[first])
            near = distances <= MAX_DISTANCE
            first, second, distances = first[near], order[second[near]], distances[near]
            # A pair that agrees in an earlier band was found there.
            new = (base_bands[second, :band] != other_bands[first, :band]).all(axis=1)
            parts.append((first[new], second[new], distances[new].astype(np.int64)))
    first, second, distances = map(np.concatenate, zip(*parts, strict=True))
    return first, second, distances


def _count_bits(values: np.ndarray) -> np.ndarray:
    """uint8 [n]: the bits that are set in each of uint64 [n]."""
    if hasattr(np, "bitwise_count"):  # since NumPy 2.0
        return np.bitwise_count(values)
    return _BITS_OF[values.view(np.uint16).reshape(-1, _BANDS)].sum(axis=1, dtype=np.uint8)


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float32 [n]: the correlation of each row of numbers [n, k] with that of another array; 0 if a row is even."""
    centred = [images - images.mean(axis=1, keepdims=True) for images in map(np.float32, (first, second))]
    squares = [np.einsum("ij,ij->i", images, images) for images in centred]
    scale = np.sqrt(squares[0] * squares[1])
    product = np.einsum("ij,ij->i", *centred)
    return np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)


def _expand(lows: np.ndarray, highs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(k, j) for every j in lows[k] .. highs[k] - 1, int64 arrays of about _PAIRS pairs at most."""
    counts = highs - lows
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
        rows = np.repeat(np.arange(start, stop), counts[start:stop])
        within = np.arange(len(rows)) - np.repeat(ends[start:stop] - counts[start:stop] - before, counts[start:stop])
        yield rows, lows[rows] + within
        start = stop


def _lengths(starts: np.ndarray, end: int) -> np.ndarray:
    return np.maximum(np.diff(starts, append=end), 1)
