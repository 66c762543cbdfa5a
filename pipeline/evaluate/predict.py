"""Predicting: a model and images give probabilities, by one compiled function, every row exactly once."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.feed.normalize import Normalization
from pipeline.format.records import UNLABELLED

if TYPE_CHECKING:
    import keras

Predictor = Callable[[np.ndarray], np.ndarray]


class Predictions(NamedTuple):
    """What a model predicts for n rows, without the probabilities [n, C]: of thousands of classes they are gigabytes.

    `labels` int [n] is the true class, -1 if there is none; `predicted` int64 [n] the most probable class, `confidence`
    float32 [n] its probability, and `label_probability` float32 [n] that of the true class (NaN if there is none).
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    label_probability: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> "Predictions":
        """From probabilities float32 [n, C] and labels int [n]; IndexError if a label is C or more."""
        rows, predicted = np.arange(len(labels)), probabilities.argmax(axis=1)
        label_probability = np.where(labels == UNLABELLED, np.nan, probabilities[rows, np.maximum(labels, 0)])
        return cls(labels, predicted, probabilities[rows, predicted], label_probability)

    @classmethod
    def join(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The rows of all parts, in turn."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


def make_predictor(
    model: "keras.Model",
    normalization: Normalization,
    image_shape: tuple[int, int, int],
    batch_size: int,
) -> Predictor:
    """A function of images uint8 [n, H*W*C] to probabilities float32 [n, num_classes], for any n.

    It is traced once, for batches of `batch_size`: a smaller last batch is padded and the padding dropped. It raises
    InputError if a batch does not fit in memory.
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
            missing = batch_size - len(batch)
            padded = np.pad(batch, ((0, missing), (0, 0))) if missing else batch
            try:
                outputs = predict_batch(tf.constant(padded))
            except tf.errors.ResourceExhaustedError as error:
                raise InputError(f"out of memory with batch_size {batch_size}; use a smaller one") from error
            probabilities[first : first + len(batch)] = outputs[: len(batch)]
        return probabilities

    return predict


def check_finite(probabilities: np.ndarray, ids: np.ndarray, where: str) -> None:
    """InputError if a row of probabilities [n, C] has NaN or infinity; it names `where` and the row's id."""
    invalid = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(invalid):
        raise InputError(
            f"{where}: the model's output for id {ids[invalid[0]]} is not a number, so its training diverged; "
            "train again with a lower learning rate"
        )
