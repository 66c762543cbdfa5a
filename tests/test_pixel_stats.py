import functools
import operator

import numpy as np
import pytest

from pipeline.convert.pixel_stats import PixelStats


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_sums_are_exact_for_any_brightness(value):
    images = np.full((700, 6), value, np.uint8)
    images[0] = value ^ 1
    stats = PixelStats.of(images, num_channels=3)
    exact = images.reshape(-1, 3).astype(np.int64)
    count, total, squares = len(exact), exact.sum(axis=0), (exact**2).sum(axis=0)
    assert stats.mean == tuple(total / count)
    assert stats.std == tuple(np.sqrt(count * squares - total**2) / count)


def test_portions_add_up_in_any_order():
    images = np.random.default_rng(0).integers(0, 256, (900, 8)).astype(np.uint8)
    first, *rest = (PixelStats.of(images[rows], 2) for rows in (slice(500, 900), slice(1), slice(1, 500), slice(0)))
    assert functools.reduce(operator.add, rest, first) == PixelStats.of(images, 2)
