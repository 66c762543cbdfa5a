"""Augmentation against NumPy, and that it follows from seed, step and place in the global batch alone."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models.step_state import StepState
from pipeline.augment.draws import Draws
from pipeline.augment.geometry import Box, ink_box, resample
from pipeline.augment.strengths import PRESETS, parse_augmentation
from pipeline.augment.transform import augment, stroke

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
@pytest.mark.parametrize(
    ("shape", "dark_background"), [(SHAPES[0], False), *((shape, True) for shape in SHAPES)], ids=str
)
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


@pytest.mark.parametrize("text", ["digits", "photos"])
def test_several_steps_at_once_are_those_steps(text):
    images = glyphs((28, 28, 3), rows=6)
    at_once = compiled(text, True, 5)(tf.constant(images), tf.range(7, 10, dtype=tf.int64), tf.constant(4))
    steps = [augmented(images[2 * k : 2 * k + 2], text, step=7 + k, first_row=4) for k in range(3)]
    # TensorFlow may rearrange the two graphs in different ways.
    np.testing.assert_allclose(at_once, np.concatenate(steps), atol=1e-6)


class GivenDraws(Draws):
    """Given numbers instead of random ones; 0.5, where both directions meet, by default."""

    def __init__(self, rows: int, **numbers: float) -> None:
        self._mild, self._given, self._count = None, numbers, rows

    def uniform(self, name: str) -> tf.Tensor:
        return tf.fill([self._count], tf.constant(self._given.get(name, 0.5)))


def moved(images: np.ndarray, text: str, boxed: bool = False, **numbers: float) -> np.ndarray:
    box = ink_box(tf.constant(images)) if boxed else None
    return resample(tf.constant(images), box, parse_augmentation(text), GivenDraws(len(images), **numbers))[0].numpy()


@pytest.mark.parametrize("boxed", [True, False], ids=["with a box", "without"])
def test_the_middle_of_every_range_moves_nothing(boxed):
    images = glyphs((24, 40, 3))
    np.testing.assert_allclose(moved(images, "none,rotation=30,shear=9,zoom=0.2,shift=0.1", boxed), images, atol=2e-5)


def test_a_quarter_turn_is_that_of_numpy():
    images = glyphs()
    turned = moved(images, "none,rotation=180", rotation=0.75)
    np.testing.assert_allclose(turned, np.rot90(images, -1, axes=(1, 2)), atol=2e-5)


def test_a_shift_by_whole_pixels_is_that_of_numpy():
    images = glyphs(rows=4)
    shifted = moved(images, "none,shift=0.25", right=5 / 7, lower=3 / 7)  # of 7 pixels either way: 3 and -1
    expected = np.roll(images, (-1, 3), axis=(1, 2))
    np.testing.assert_allclose(shifted[:, 1:-1, 3:-3], expected[:, 1:-1, 3:-3], atol=2e-5)


def test_mirrored_images_are_mirrored_exactly():
    images = glyphs((24, 40, 3))
    np.testing.assert_array_equal(moved(images, "none,flip=0.6"), images[:, :, ::-1])
    np.testing.assert_array_equal(moved(images, "none,flip=0.4"), images)


def test_rotation_shear_zoom_and_stretch_compose_as_matrices():
    """Against a product of matrices, its inverse by NumPy, and bilinear sampling written out."""
    images = glyphs((24, 40, 1), rows=3)
    angle, slant = np.deg2rad([20, 10])  # a quarter of the way out: u = 0.75 of limits 40 and 20
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ [[1, np.tan(slant)], [0, 1]] @ np.diag([np.exp(0.1 + 0.15), np.exp(0.1 - 0.15)])
    y, x = np.mgrid[:24, :40]
    from_x, from_y = np.linalg.inv(matrix) @ [x.ravel() - 19.5, y.ravel() - 11.5] + [[19.5], [11.5]]
    padded = np.pad(images[..., 0], ((0, 0), (60, 60), (60, 60)), mode="symmetric")
    left, top = np.floor(from_x).astype(int), np.floor(from_y).astype(int)
    expected = sum(
        padded[:, top + down + 60, left + right + 60]
        * (1 - np.abs(from_x - left - right))
        * (1 - np.abs(from_y - top - down))
        for down in (0, 1)
        for right in (0, 1)
    )
    text = "none,rotation=40,shear=20,zoom=0.2,max_stretch=0.4"
    result = moved(images, text, rotation=0.75, shear=0.75, zoom=0.75, stretch=0.75)
    np.testing.assert_allclose(result.reshape(3, -1), expected, atol=1e-4)


def test_the_ink_box_is_that_of_the_bright_pixels():
    images = np.zeros((2, 10, 12, 1), np.float32)
    images[0, 2:5, 3:10] = 0.5
    images[0, 0, 0] = 0.1  # paper
    box = ink_box(tf.constant(images))
    np.testing.assert_array_equal(box, [[0.5, 0], [-1.5, 0], [7, 12], [3, 10]])  # without ink: the whole image


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_longer_side_is_refitted_and_the_glyph_stays_inside(shape):
    images = tf.constant(glyphs(shape))
    strengths = parse_augmentation("none,min_stretch=-0.4,max_stretch=0.4,min_size=0.8,max_size=1.1,shift=0.4")
    before, draws = ink_box(images), Draws(state(), tf.constant(ROWS), 0.0)
    result, box = resample(images, before, strengths, draws)
    before, box, seen = (Box(*(np.asarray(field) for field in fields)) for fields in (before, box, ink_box(result)))
    factor = np.maximum(box.width, box.height) / np.maximum(before.width, before.height)
    assert factor.min() < 0.9 and 1.0 < factor.max() < 1.101
    for middle, size, length in ((box.x, box.width, shape[1]), (box.y, box.height, shape[0])):
        assert (np.abs(middle) + size / 2 <= length / 2 + 1e-3).all()
    for name in Box._fields:  # half a pixel of an edge can fade, or appear, by interpolation
        assert np.abs(getattr(seen, name) - getattr(box, name)).max() < 1.6, name


def test_more_thickness_is_more_ink():
    images = tf.constant(glyphs())
    strengths = parse_augmentation("none,thicken=0.5,thin=0.3")
    ink = [
        stroke(images, strengths, GivenDraws(ROWS, thickness=u)).numpy().sum((1, 2, 3))
        for u in (0.0, 0.2, 0.375, 0.6, 1.0)
    ]
    assert (np.diff(ink, axis=0) > 0).all()
    np.testing.assert_allclose(ink[2], images.numpy().sum((1, 2, 3)), rtol=1e-5)  # 0.375 of -0.3 .. 0.5 is 0


def test_thickness_follows_the_image_size():
    images, strengths = glyphs(), parse_augmentation("none,thicken=0.5")
    small = stroke(tf.constant(images), strengths, GivenDraws(ROWS, thickness=1.0)).numpy()
    enlarged = tf.constant(images.repeat(2, axis=1).repeat(2, axis=2))
    large = stroke(enlarged, strengths, GivenDraws(ROWS, thickness=1.0)).numpy()
    np.testing.assert_array_equal(large, small.repeat(2, axis=1).repeat(2, axis=2))


def test_sharpening_moves_greys_apart_and_keeps_black_and_white():
    images = np.tile(np.float32([0.0, 0.2, 0.6, 1.0]), 7 * 28).reshape(1, 28, 28, 1)
    sharpened = stroke(tf.constant(images), parse_augmentation("none,sharpen=2"), GivenDraws(1, gain=1.0)).numpy()
    np.testing.assert_allclose(sharpened.reshape(-1, 4), np.tile([0, 0.01, 0.93, 1], (196, 1)), atol=1e-6)


def test_a_cut_takes_a_strip_off_one_side():
    images = np.zeros((ROWS, 20, 20, 1), np.float32)
    images[:, 4:16, 7:13] = 1  # 12 rows, 6 columns
    cut = augmented(images, "none,cut=1,cut_depth=0.25")
    lost = images.sum((1, 2, 3)) - cut.sum((1, 2, 3))
    assert (lost % 6 == 0).all()  # whole rows or columns
    assert lost.max() <= 5 * 6 and (lost > 0).mean() > 0.7
    assert (cut <= images).all()


def test_lines_are_bright_straight_and_near_an_edge():
    drawn = augmented(np.zeros((ROWS, 28, 28, 1), np.float32), "none,line=1,line_width=0.071")[..., 0]
    assert drawn.max() <= 1 and (drawn.max((1, 2)) > 0.2).all()
    long, across = np.maximum((drawn > 0).sum(1).max(1), (drawn > 0).sum(2).max(1)), (drawn > 0).any(1).sum(1)
    assert long.min() >= 16  # 0.6 of 28 pixels
    assert (np.minimum(across, (drawn > 0).any(2).sum(1)) <= 4).all()  # two pixels, each end in part
    assert not drawn[:, 9:19, 9:19].any(axis=(1, 2)).any() or drawn[:, 9:19, 9:19].sum() < drawn.sum() / 2


def test_specks_are_few_pixels():
    drawn = augmented(np.zeros((ROWS, 28, 28, 1), np.float32), "none,speck=0.5")
    pixels = (drawn > 0).sum((1, 2, 3))
    assert 0.3 < (pixels > 0).mean() < 0.7 and pixels.max() <= 18


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blank_images_stay_blank(shape):
    blank = np.zeros((ROWS, *shape), np.float32)
    assert not augmented(blank, "digits,line=0,speck=0").any()
    assert (augmented(1 - blank, "digits,line=0,speck=0", dark_background=False) == 1).all()
    assert np.isfinite(augmented(blank, "photos")).all()


def test_an_empty_share_of_a_batch_stays_empty():
    for text in ("digits", "photos"):
        assert augmented(glyphs(rows=0), text).shape == (0, 28, 28, 1)


def test_light_paper_is_changed_as_dark_paper_is():
    images = glyphs()
    light = augmented(1 - images, "digits", dark_background=False)
    np.testing.assert_allclose(light, 1 - augmented(images, "digits"), atol=1e-4)


def test_colour_keeps_grey_grey_unless_tinted():
    images = np.repeat(glyphs(), 3, axis=3)
    grey = augmented(images, "none,brightness=0.2,contrast=0.3,saturation=0.4")
    np.testing.assert_allclose(np.ptp(grey, axis=3), 0, atol=1e-6)
    assert np.ptp(augmented(images, "none,tint=0.2"), axis=3).max() > 0.05


def test_untouched_images_are_the_originals():
    images = glyphs()
    same = (augmented(images, "digits,untouched=0.5") == images).all(axis=(1, 2, 3))
    assert 0.3 < same.mean() < 0.7


def test_mild_images_are_stretched_less():
    images = glyphs()
    strengths = "none,min_stretch=-0.15,max_stretch=0.6,min_size=1,max_size=1,mild="
    stretch = {}
    for mild in "01":
        box = ink_box(tf.constant(augmented(images, strengths + mild)))
        before = ink_box(tf.constant(images))
        stretch[mild] = np.log(box.width / box.height) - np.log(before.width / before.height)
    assert stretch["0"].max() > 0.45 and stretch["0"].mean() > 0.15
    assert np.abs(stretch["1"]).max() < 0.4 and abs(stretch["1"].mean()) < 0.06  # 0.225, and half a pixel per edge


def test_replicas_of_a_strategy_augment_their_parts_of_one_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images = glyphs(rows=32)

    @tf.function
    def run(images: tf.Tensor, step: tf.Tensor):
        def replica() -> tf.Tensor:
            first = 16 * tf.distribute.get_replica_context().replica_id_in_sync_group
            return augment(images[first : first + 16], PRESETS["digits"], StepState(5, step, tf.cast(first, tf.int32)))

        return strategy.experimental_local_results(strategy.run(replica))

    parts = run(tf.constant(images), tf.constant(7, tf.int64))
    np.testing.assert_array_equal(np.concatenate(parts), augmented(images, "digits"))


def test_images_of_unknown_size_are_refused():
    function = tf.function(lambda images: augment(images, PRESETS["digits"], state()))
    with pytest.raises(ValueError, match="static H, W and C"):
        function.get_concrete_function(tf.TensorSpec((None, None, 28, 1)))
