"""Augmentation against NumPy, and that it follows from seed, step and place in the global batch alone."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models.step_state import StepState
from pipeline.augment.strengths import PRESETS, parse_augmentation
from pipeline.augment.transform import augment

ROWS = 63  # vector registers of 4, 8 and 16 numbers leave a rest
SHAPES = [(8, 8, 1), (28, 28, 1), (24, 40, 1), (64, 64, 3)]


def glyphs(shape=(28, 28, 1), rows: int = ROWS) -> np.ndarray:
    """float32 [rows, *shape]: strokes two pixels wide, each image another, with paper around them."""
    rng, (height, width, _) = np.random.default_rng(3), shape
    images = np.zeros((rows, *shape), np.float32)
    for image in images:
        top, left = rng.integers(1, height // 4 + 1), rng.integers(1, width // 4 + 1)
        bottom, right = height - rng.integers(2, height // 4 + 2), width - rng.integers(2, width // 4 + 2)
        image[top : top + 2, left:right] = 1
        image[top:bottom, left : left + 2] = 0.8
        image[bottom - 2 : bottom, left : (left + right) // 2] = 0.6
    return images


def state(seed: int = 5, step: int = 7, first_row: int = 0) -> StepState:
    return StepState(seed, tf.constant(step, tf.int64), tf.constant(first_row))


@functools.cache
def compiled(text: str, dark_background: bool, seed: int):
    """As a training step calls it: in a tf.function, with the step and the first row as tensors."""

    @tf.function
    def run(images: tf.Tensor, step: tf.Tensor, first_row: tf.Tensor) -> tf.Tensor:
        return augment(images, parse_augmentation(text), StepState(seed, step, first_row), dark_background)

    return run


def augmented(images: np.ndarray, text: str, dark_background: bool = True, seed: int = 5, **place) -> np.ndarray:
    where = state(**place)
    return compiled(text, dark_background, seed)(tf.constant(images), where.step, where.first_row).numpy()


def test_none_returns_the_tensor_itself():
    images = tf.constant(glyphs())
    assert augment(images, PRESETS["none"], state()) is images


@pytest.mark.parametrize("text", ["digits", "photos"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dark_background", [True, False], ids=["dark", "light"])
def test_a_preset_keeps_shape_type_and_range(text, shape, dark_background):
    images = glyphs(shape)
    images = images if dark_background else 1 - images
    changed = augmented(images, text, dark_background)
    assert changed.shape == images.shape and changed.dtype == np.float32
    assert changed.min() >= 0 and changed.max() <= 1
    assert (np.abs(changed - images).max(axis=(1, 2, 3)) > 0.1).mean() > 0.8


@pytest.mark.parametrize("text", ["digits,untouched=0.1,flip=0.3,zoom=0.2", "photos"])
@pytest.mark.parametrize("rows", [1, 9, 21])
def test_any_split_over_replicas_gives_the_same_bits(text, rows):
    images = glyphs((28, 28, 3))
    parts = [augmented(images[at : at + rows], text, first_row=at) for at in range(0, ROWS, rows)]
    np.testing.assert_array_equal(np.concatenate(parts), augmented(images, text))


def test_seed_step_and_row_each_change_every_image():
    images = np.repeat(glyphs(rows=1), 8, axis=0)
    text = "digits,untouched=0"
    results = [augmented(images, text, **place) for place in ({}, {"seed": 6}, {"step": 8}, {"first_row": 8})]
    assert len(np.unique(np.concatenate(results), axis=0)) == 32
    np.testing.assert_array_equal(augmented(images, text), results[0])
