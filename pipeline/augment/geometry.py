"""Where the ink is, and one resampling for rotation, shear, stretch, size, shift and mirroring."""

import math
from typing import NamedTuple

import tensorflow as tf

from pipeline.augment.draws import Draws
from pipeline.augment.strengths import Augmentation

MILD_STRETCH = 0.225  # of mild images: logarithm, either way
MILD_SIZES = (0.9, 1.025)  # of mild images: factors of the longer side

_INK = 0.3  # a pixel above it is ink; what scanners leave of paper is below


class Box(NamedTuple):
    """Middle and size of each image's ink, float32 [n] in pixels; x counts columns, y rows, from the image's middle."""

    x: tf.Tensor
    y: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor


def image_shape(images: tf.Tensor) -> tuple[int, int, int]:
    """Height, width and channels of images [n, H, W, C]; ValueError if they are not static."""
    shape = images.shape.as_list()
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(f"augmentation needs images [n, H, W, C] with static H, W and C, not {shape}")
    height, width, channels = (size or 0 for size in shape[1:])
    return height, width, channels


def ink_box(images: tf.Tensor) -> Box:
    """The box of the pixels above a threshold in images [n, H, W, C]; the whole image if there are none."""
    ink = tf.reduce_max(images, axis=3) if image_shape(images)[2] > 1 else tf.squeeze(images, 3)
    rows, columns = tf.reduce_max(ink, axis=2), tf.reduce_max(ink, axis=1)
    height, width, _ = image_shape(images)
    y, tall = _middle_and_size(rows > _INK, height)
    x, wide = _middle_and_size(columns > _INK, width)
    return Box(x, y, wide, tall)


def resample(images: tf.Tensor, box: Box | None, strengths: Augmentation, draws: Draws) -> tuple[tf.Tensor, Box | None]:
    """Images [n, H, W, C] moved by what was drawn, and where the ink box lies then.

    The image turns about its middle, so that glyphs centred by mass stay so. The box is kept inside the image, except
    for the corners of what is rotated. Edges are continued by reflection if there is no box, else with 0.
    """
    height, width, _ = image_shape(images)
    side = float(min(height, width))
    across, down = _scales(box, height, width, strengths, draws)
    right, lower = _shifts(side, strengths, draws)
    cosine, sine = _turn(draws.symmetric("rotation", strengths.rotation))
    slant = _tangent(draws.symmetric("shear", strengths.shear))
    moved = None
    if box is not None:
        turned_x = cosine * (across * box.x) + (cosine * slant - sine) * (down * box.y)
        turned_y = sine * (across * box.x) + (sine * slant + cosine) * (down * box.y)
        moved = Box(
            _inside(turned_x + right, across * box.width, width),
            _inside(turned_y + lower, down * box.height, height),
            across * box.width,
            down * box.height,
        )
        right, lower = moved.x - turned_x, moved.y - turned_y
    if strengths.flip:
        across = tf.where(draws.happens("flip", strengths.flip), -across, across)
    # The kernel maps a point of the output to the input: the inverse of shift * rotation * shear * scale.
    inverse = (cosine + slant * sine) / across, (sine - slant * cosine) / across, -sine / down, cosine / down
    transforms = _about_middle(inverse, right, lower, height, width)
    with tf.device("CPU:0"):  # where the kernel reads it, on a GPU too, which would have to be waited for
        fill_value = tf.constant(0.0)
    result = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.constant([height, width]),
        fill_value=fill_value,
        interpolation="BILINEAR",
        fill_mode="REFLECT" if box is None else "CONSTANT",
    )
    return tf.ensure_shape(result, images.shape), moved


def _middle_and_size(occupied: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Of bool [n, length] per image: the middle of the true entries, from the axis's middle, and their extent."""
    places = tf.range(length, dtype=tf.float32)
    first = tf.reduce_min(tf.where(occupied, places, float(length)), axis=1)
    last = tf.reduce_max(tf.where(occupied, places, -1.0), axis=1)
    blank = last < 0
    first, last = tf.where(blank, 0.0, first), tf.where(blank, length - 1.0, last)
    return (first + last - (length - 1)) / 2, last - first + 1


def _scales(
    box: Box | None, height: int, width: int, strengths: Augmentation, draws: Draws
) -> tuple[tf.Tensor, tf.Tensor]:
    """The factors of width and height, bounded so that the box fits into the image."""
    limit = min(MILD_STRETCH, max(abs(strengths.min_stretch), abs(strengths.max_stretch)))
    stretch = draws.between("stretch", (strengths.min_stretch, strengths.max_stretch), (-limit, limit))
    zoom = _exp(draws.symmetric("zoom", strengths.zoom))
    across, down = zoom * _exp(stretch / 2), zoom * _exp(-stretch / 2)
    if box is None or not strengths.max_size:
        return across, down
    low, high = strengths.min_size, strengths.max_size
    least, most = (min(max(size, low), high) for size in MILD_SIZES)
    across, down = across * box.width, down * box.height
    size = draws.between("size", (low, high), (least, most)) * tf.maximum(box.width, box.height)
    factor = tf.minimum(size / tf.maximum(across, down), tf.minimum(width / across, height / down))
    return factor * across / box.width, factor * down / box.height


def _shifts(side: float, strengths: Augmentation, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
    reach = tf.constant(strengths.shift * side)
    if strengths.far:
        reach = tf.where(draws.happens("far", strengths.far), strengths.far_shift * side, reach)
    return draws.symmetric("right", 1.0) * reach, draws.symmetric("lower", 1.0) * reach


def _inside(middle: tf.Tensor, size: tf.Tensor, length: int) -> tf.Tensor:
    """The middle nearest to the given one at which a box of that size lies inside the image."""
    room = tf.maximum((length - size) / 2, 0.0)
    return tf.clip_by_value(middle, -room, room)


def _about_middle(inverse: tuple, right: tf.Tensor, lower: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Rows (a0, a1, a2, b0, b1, b2, 0, 0): input x = a0 x + a1 y + a2 and y = b0 x + b1 y + b2, in pixels."""
    a0, a1, b0, b1 = inverse
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x, y = right + middle_x, lower + middle_y
    zero = tf.zeros_like(a0)
    return tf.stack([a0, a1, middle_x - a0 * x - a1 * y, b0, b1, middle_y - b0 * x - b1 * y, zero, zero], axis=1)


# Series below: tf.sin, tf.cos and tf.exp give other last bits for the rest of a vector that does not fill a
# register, so an image's result would depend on how many share its replica.


def _exp(x: tf.Tensor) -> tf.Tensor:
    """The exponential, by its series; relative error below 1e-7 for |x| <= 1."""
    return _series(x, [1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0])


def _turn(degrees: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosine and sine of an angle up to 180 degrees, by their series at a quarter of it; error below 1e-6."""
    quarter = degrees * (math.pi / 720)
    square = quarter * quarter
    cosine = _series(square, [1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0])
    sine = quarter * _series(square, [1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0])
    for _ in range(2):
        cosine, sine = 1 - 2 * sine * sine, 2 * sine * cosine
    return cosine, sine


def _tangent(degrees: tf.Tensor) -> tf.Tensor:
    cosine, sine = _turn(degrees)
    return sine / cosine


def _series(x: tf.Tensor, factors: list[float]) -> tf.Tensor:
    total = tf.constant(factors[0])
    for factor in factors[1:]:
        total = total * x + factor
    return total
