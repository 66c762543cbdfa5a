"""What paper and scanners add to a glyph or take from it: straight lines, specks, a lost strip."""

import tensorflow as tf

from pipeline.augment.draws import Draws
from pipeline.augment.geometry import Box, image_shape
from pipeline.augment.strengths import Augmentation

_MAX_CUT = 1 / 3  # of the glyph's width or height, so that narrow ones stay readable
_LINE_BAND = 0.25  # lines lie within this share of the side from an edge
_MIN_LINE = 0.6  # shortest line, as a share of the image's length
_MIN_GREY = 0.4  # darkest line or speck


def cut_strip(images: tf.Tensor, box: Box, strengths: Augmentation, draws: Draws) -> tf.Tensor:
    """Images [n, H, W, C] without the ink above, below, left or right of a line just inside the box."""
    height, width, _ = image_shape(images)
    least = 1.0 / min(height, width)
    depth = draws.between("cut_depth", (least, max(least, strengths.cut_depth))) * float(min(height, width))
    # Side 0 is left, 1 top, 2 right, 3 bottom; what is not cut keeps everything.
    side = tf.where(draws.happens("cut", strengths.cut), tf.floor(draws.uniform("cut_side") * 4), -1.0)
    columns = _kept(box.x, box.width, depth, width, side, 0.0)
    rows = _kept(box.y, box.height, depth, height, side, 1.0)
    return images * rows[:, :, None, None] * columns[:, None, :, None]


def draw_marks(images: tf.Tensor, strengths: Augmentation, draws: Draws) -> tf.Tensor:
    """Images [n, H, W, C] with lines and specks over them.

    A mark is a profile over rows times one over columns, so all marks are one small matrix product per image.
    """
    height, width, _ = image_shape(images)
    marks = []
    if strengths.line:
        marks.append(_line(height, width, strengths, draws))
    if strengths.speck:
        marks += _specks(height, width, strengths, draws)
    rows, columns = (tf.stack(profiles, axis=1) for profiles in zip(*marks, strict=True))
    overlay = tf.matmul(rows, columns, transpose_a=True)
    return tf.maximum(images, tf.minimum(overlay, 1.0)[:, :, :, None])


def _kept(middle: tf.Tensor, size: tf.Tensor, depth: tf.Tensor, length: int, side: tf.Tensor, near: float) -> tf.Tensor:
    """float32 [n, length]: 0 for what is cut from this axis; `near` and `near + 2` are its two sides."""
    edge = (size / 2 - tf.minimum(depth, _MAX_CUT * size))[:, None]
    places = tf.range(length, dtype=tf.float32) - (length - 1) / 2 - middle[:, None]
    lost = ((side == near)[:, None] & (places < -edge)) | ((side == near + 2)[:, None] & (places > edge))
    return tf.where(lost, 0.0, 1.0)


def _line(height: int, width: int, strengths: Augmentation, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
    """Profiles [n, H] over rows and [n, W] over columns of a line along an axis, near one of the four edges."""
    side = float(min(height, width))
    grey = draws.between("line_grey", (_MIN_GREY, 1.0)) * tf.cast(draws.happens("line", strengths.line), tf.float32)
    thick = draws.between("line_width", (1.0, max(1.0, strengths.line_width * side)))
    share = draws.between("line_length", (_MIN_LINE, 1.0))
    start = draws.uniform("line_start") * (1 - share)
    # Sides as those of a cut; even ones are upright lines.
    edge = tf.floor(draws.uniform("line_side") * 4)
    place = draws.uniform("line_place") * _LINE_BAND * side
    upright = (edge == 0) | (edge == 2)

    def profile(length: int, across: tf.Tensor) -> tf.Tensor:
        near = tf.where(edge < 2, place, length - 1 - place)
        middle = tf.where(across, near, (start + share / 2) * length - 0.5)
        return _segment(middle, tf.where(across, thick, share * length), length)

    return profile(height, ~upright) * grey[:, None], profile(width, upright)


def _specks(height: int, width: int, strengths: Augmentation, draws: Draws) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Up to two specks of one or two pixels' width and height, anywhere."""
    grey = draws.between("speck_grey", (_MIN_GREY, 1.0)) * tf.cast(draws.happens("speck", strengths.speck), tf.float32)
    second = grey * tf.cast(draws.happens("speck_count", 0.5), tf.float32)
    x, y, size = (draws.uniform(name) for name in ("speck_x", "speck_y", "speck_size"))
    wide, tall = 1.0 + tf.floor(size * 2), 1.0 + tf.floor(size * 4) % 2
    return [
        (_segment(y * height, tall, height) * grey[:, None], _segment(x * width, wide, width)),
        (_segment(x * height, tall, height) * second[:, None], _segment(y * width, tall, width)),
    ]


def _segment(middle: tf.Tensor, size: tf.Tensor, length: int) -> tf.Tensor:
    """float32 [n, length]: how much of each pixel a segment covers."""
    distance = tf.abs(tf.range(length, dtype=tf.float32) - middle[:, None])
    return tf.clip_by_value((size / 2 + 0.5)[:, None] - distance, 0.0, 1.0)
