import numpy as np
import pytest

from pipeline.convert.pixel_stats import PixelStats


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_no_sum_is_rounded_however_bright_the_images_are(value):
    images = np.full((700, 6), value, np.uint8)
    images[0] = value ^ 1
    stats = PixelStats.of(images, num_channels=3)
    exact = images.reshape(-1, 3).astype(np.int64)
    count, total, squares = len(exact), exact.sum(axis=0), (exact**2).sum(axis=0)
    assert stats.mean == tuple(total / count)
    assert stats.std == tuple(np.sqrt(count * squares - total**2) / count)


def test_portions_merged_in_any_order_give_the_same_bits():
    images = np.random.default_rng(0).integers(0, 256, (900, 8)).astype(np.uint8)
    whole, merged = PixelStats.of(images, 2), PixelStats(2)
    for portion in (images[500:], images[:1], images[1:500]):
        merged.merge(PixelStats.of(portion, 2))
    assert (merged.mean, merged.std) == (whole.mean, whole.std)
