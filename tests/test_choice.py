"""Which preset and which background images get."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.augment.choice import choose_preset, is_dark_background
from pipeline.sample.draw import draw_chunks


def numerals() -> np.ndarray:
    (images, _), *_ = draw_chunks(50, seed=1)
    return images[..., None]


def small_digits() -> np.ndarray:
    return (load_digits().images * 15.9).astype(np.uint8)[..., None]


def noise(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 20, 20, channels), np.uint8)


def gradients() -> np.ndarray:
    """Light that falls from another direction in each image, as photos have it."""
    y, x = np.mgrid[-1:1:20j, -1:1:20j]
    angles = np.arange(40)[:, None, None]
    return (127 + 60 * (np.cos(angles) * x + np.sin(angles) * y)).astype(np.uint8)[..., None]


@pytest.mark.parametrize("images", [numerals, small_digits])
def test_glyphs_get_digits_whatever_the_paper(images):
    assert choose_preset(images()) == choose_preset(255 - images()) == "digits"
    assert is_dark_background(images()) and not is_dark_background(255 - images())


@pytest.mark.parametrize("images", [noise, gradients, lambda: noise(3), lambda: np.repeat(small_digits(), 3, axis=3)])
def test_other_images_get_photos(images):
    assert choose_preset(images()) == "photos"


def test_no_images_get_a_choice():
    empty = np.empty((0, 8, 8, 1), np.uint8)
    assert choose_preset(empty) == "photos" and is_dark_background(empty)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_images_of_one_line_have_a_border(shape):
    assert is_dark_background(np.zeros((3, *shape, 1), np.uint8))
