"""Probabilities for rows of bytes: one compiled function, every row exactly once."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pipeline.feed.normalize import Normalization

if TYPE_CHECKING:
    import keras

Predictor = Callable[[np.ndarray], np.ndarray]


def make_predictor(
    model: "keras.Model",
    normalization: Normalization,
    image_shape: tuple[int, int, int],
    batch_size: int,
) -> Predictor:
    """A function of images uint8 [n, H*W*C] to probabilities float32 [n, num_classes], for any n.

    It is traced once, for batches of `batch_size`; a last one that is smaller is filled up and the filling dropped.
    """
    import tensorflow as tf

    num_pixels, num_classes = int(np.prod(image_shape)), model.output_shape[-1]

    @tf.function(input_signature=[tf.TensorSpec((batch_size, num_pixels), tf.uint8)])
    def predict_batch(images):
        images = tf.reshape(images, (batch_size, *image_shape))
        return model(normalization.apply(images), training=False)

    def predict(images: np.ndarray) -> np.ndarray:
        probabilities = np.empty((len(images), num_classes), np.float32)
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size]
            filling = ((0, batch_size - len(batch)), (0, 0))
            found = predict_batch(tf.constant(np.pad(batch, filling) if filling[0][1] else batch))
            probabilities[first : first + len(batch)] = found[: len(batch)]
        return probabilities

    return predict


def predict_probabilities(
    model: "keras.Model",
    normalization: Normalization,
    images: np.ndarray,
    image_shape: tuple[int, int, int],
    batch_size: int = 1024,
) -> np.ndarray:
    """Probabilities float32 [n, num_classes] for images uint8 [n, H*W*C]; for many calls use `make_predictor`."""
    # A batch larger than there are rows would only be filled up.
    batch_size = max(1, min(batch_size, len(images)))
    return make_predictor(model, normalization, image_shape, batch_size)(images)
