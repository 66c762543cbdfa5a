"""Augmentation of whole batches on the device that trains.

Random numbers follow from (seed, step, place in the global batch) alone, so 1 and 8 replicas train on the same images,
and so does a run that resumes.
"""

import tensorflow as tf

from models.step_state import StepState
from pipeline.augment.draws import Draws
from pipeline.augment.geometry import image_shape, ink_box, resample
from pipeline.augment.marks import cut_strip, draw_marks
from pipeline.augment.strengths import Augmentation

MILD_THICKNESS = 0.2  # of mild images: share of the maximum or minimum in the blend

_SIDE = 28  # pixels, on which strengths of strokes were chosen
_GEOMETRY = ("rotation", "shear", "min_stretch", "max_stretch", "max_size", "zoom", "shift", "far", "flip")
_COLOUR = ("brightness", "contrast", "saturation", "tint")


def augment(images: tf.Tensor, strengths: Augmentation, state: StepState, dark_background: bool = True) -> tf.Tensor:
    """Images as a step trains on them: each changed by its own random numbers.

    Only what the strengths need is computed. Not for XLA: TensorFlow 2.21 has no kernel of ImageProjectiveTransformV3
    there, so call this outside a function with jit_compile.

    Args:
        images: float32 [n, H, W, C] in 0..1, with static H, W and C; of several steps, those of one after another.
        state: seed, step or steps, and position of the first image in the global batch.
        dark_background: whether ink is brighter than paper; else images are inverted while they are changed.

    Returns:
        float32 [n, H, W, C] in 0..1; `images` itself if all strengths are 0.
    """
    if not strengths:
        return images
    draws = Draws(state, tf.shape(images)[0] // tf.size(state.step), strengths.mild)
    changed = images if dark_background else 1 - images
    changed = _move(changed, strengths, draws)
    if strengths.thicken or strengths.thin or strengths.sharpen:
        changed = stroke(changed, strengths, draws)
    if strengths.line or strengths.speck:
        changed = draw_marks(changed, strengths, draws)
    if not dark_background:
        changed = 1 - changed
    if any(getattr(strengths, name) for name in _COLOUR):
        changed = _colour(changed, strengths, draws)
    if strengths.untouched:
        untouched = draws.happens("untouched", strengths.untouched)
        changed = tf.where(untouched[:, None, None, None], images, changed)
    return changed


def _move(images: tf.Tensor, strengths: Augmentation, draws: Draws) -> tf.Tensor:
    box = ink_box(images) if strengths.max_size or strengths.cut else None
    if any(getattr(strengths, name) for name in _GEOMETRY):
        images, box = resample(images, box, strengths, draws)
    if box is not None and strengths.cut:
        images = cut_strip(images, box, strengths, draws)
    return images


def stroke(images: tf.Tensor, strengths: Augmentation, draws: Draws) -> tf.Tensor:
    """Strokes thicker or thinner by a blend with the maximum or minimum around a pixel, then edges sharpened.

    clip((1.15 f - 0.45) g + 0.45) of the blend f: without it, resampling and blending grey and lose thin strokes.
    """
    scale = min(image_shape(images)[:2]) / _SIDE  # smaller images get a smaller share, larger ones a larger reach
    reach = max(1, round(scale))
    share = min(1.0, scale / reach)
    factor, pooled_factor, offset = tf.ones_like(draws.uniform("gain")), None, None
    if strengths.thicken or strengths.thin:
        mild = -min(strengths.thin, MILD_THICKNESS) * share, min(strengths.thicken, MILD_THICKNESS) * share
        amount = draws.between("thickness", (-strengths.thin * share, strengths.thicken * share), mild)
        # The minimum is the negative of the negatives' maximum, so one pooling serves both.
        sign = tf.where(amount < 0, -1.0, 1.0)
        pooled = tf.nn.max_pool2d(images * _per_image(sign), 2 * reach + 1, 1, "SAME")
        factor, pooled_factor = 1 - tf.abs(amount), amount
    if strengths.sharpen:
        gain = draws.between("gain", (1.0, 1 + max(0.0, strengths.sharpen - 1) * share))
        factor, offset = factor * (1.15 * gain), 0.45 * (1 - gain)
        pooled_factor = None if pooled_factor is None else pooled_factor * (1.15 * gain)
    result = images * _per_image(factor)
    if pooled_factor is not None:
        result += pooled * _per_image(pooled_factor)
    if offset is not None:
        result = tf.clip_by_value(result + _per_image(offset), 0.0, 1.0)
    return result


def _colour(images: tf.Tensor, strengths: Augmentation, draws: Draws) -> tf.Tensor:
    """One matrix over channels per image, for saturation, tint and contrast, and one offset per channel."""
    height, width, channels = image_shape(images)
    saturation = 1 + draws.symmetric("saturation", strengths.saturation)[:, None, None]
    grey = tf.fill((channels, channels), 1 / channels)
    mix = grey + saturation * (tf.eye(channels) - grey)
    tint = 1 + (2 * draws.many("tint", channels) - 1) * strengths.tint
    contrast = 1 + draws.symmetric("contrast", strengths.contrast)[:, None, None]
    brightness = draws.symmetric("brightness", strengths.brightness)[:, None, None]
    pixels = tf.reshape(images, (-1, height * width, channels))
    mean = tf.reduce_mean(pixels, axis=(1, 2), keepdims=True)
    offset = (1 - contrast) * mean + brightness
    changed = tf.matmul(pixels, mix * tint[:, None, :] * contrast) + offset
    return tf.reshape(tf.clip_by_value(changed, 0.0, 1.0), (-1, height, width, channels))


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]
