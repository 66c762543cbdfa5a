"""Predicting: a model and rows give probabilities, by one compiled function, every row exactly once."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.format.records import UNLABELLED

if TYPE_CHECKING:
    import keras

# Images uint8 [n, H*W*C], labels int [n] (-1 if there is none), ids [n]: int64, or object if they are text.
Rows = tuple[np.ndarray, ...]
_BLOCK_ROWS = 4096  # copied at a time
Predictor = Callable[[Iterable[Rows], str], Iterator[tuple[Rows, np.ndarray]]]


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

    @property
    def wrong(self) -> np.ndarray:
        """bool [n]: rows that have a label, and another prediction."""
        return (self.labels != UNLABELLED) & (self.labels != self.predicted)

    @classmethod
    def join(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The rows of all parts, in turn."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


class KnownRows(NamedTuple):
    """Rows int [m] of a split whose probabilities float32 [m, C] are known."""

    rows: np.ndarray
    probabilities: np.ndarray


def predict_split(predict: Predictor, rows: Rows, where: str, known: KnownRows | None = None) -> Predictions:
    """Predictions of the rows of a split, in their order; those that are known are not predicted again."""
    done = np.empty(0, np.int64) if known is None else known.rows
    parts = [] if known is None else [Predictions.of(known.probabilities, rows[1][done])]
    missing = np.setdiff1d(np.arange(len(rows[1])), done)
    chunks = np.split(missing, range(_BLOCK_ROWS, len(missing), _BLOCK_ROWS))
    blocks = (tuple(array[chunk] for array in rows) for chunk in chunks)
    parts += [Predictions.of(values, labels) for (_, labels, _), values in predict(blocks, where)]
    back = np.concatenate([done, missing]).argsort()
    return Predictions(*(values[back] for values in Predictions.join(parts)))


def make_predictor(
    model: "keras.Model", image_shape: tuple[int, int, int], batch_size: int, shifts: bool = False
) -> Predictor:
    """A generator function from blocks of rows, of any size, to batches of them with probabilities float32 [n, C].

    The model is one of `saved_run.takes_pixels`. The generator's second argument names it in the InputError raised if a
    row of probabilities has NaN or infinity; InputError is also raised if a batch does not fit in memory. With `shifts`
    it averages over `shifted_views` of the images, one view after another, at five times the time and about the same
    memory.
    """
    import tensorflow as tf

    num_pixels = int(np.prod(image_shape))

    # One signature, so it is compiled once.
    @tf.function(input_signature=[tf.TensorSpec((batch_size, num_pixels), tf.uint8)])
    def predict_batch(images):
        images = tf.reshape(images, (batch_size, *image_shape))
        return model(images, training=False)

    def predict(blocks: Iterable[Rows], where: str) -> Iterator[tuple[Rows, np.ndarray]]:
        for batch in in_batches(blocks, batch_size):
            images, _, ids = batch
            # A GPU would tune its convolutions again for a smaller last batch, so it is padded.
            padded = np.pad(images, ((0, batch_size - len(images)), (0, 0)))
            views = shifted_views(padded, image_shape) if shifts else [padded]
            try:
                probabilities = _mean([predict_batch(view).numpy()[: len(images)] for view in views])
            except tf.errors.ResourceExhaustedError as error:
                raise InputError(f"out of memory with batch_size {batch_size}; use a smaller one") from error
            _check_finite(probabilities, ids, where)
            yield batch, probabilities

    return predict


def average_predictors(predictors: Sequence[Predictor]) -> Predictor:
    """A predictor of the mean of the probabilities of several, which have the same classes and batch size.

    Blocks are read once, and at most one batch per predictor is in memory.
    """

    def predict(blocks: Iterable[Rows], where: str) -> Iterator[tuple[Rows, np.ndarray]]:
        copies = itertools.tee(blocks, len(predictors))
        streams = [predictor(copy, where) for predictor, copy in zip(predictors, copies, strict=True)]
        for results in zip(*streams, strict=True):
            yield results[0][0], _mean([probabilities for _, probabilities in results])

    return predict


def shifted_views(images: np.ndarray, image_shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yield images uint8 [n, H*W*C] as they are, then shifted by a pixel up, down, left and right.

    The pixels at the border are repeated. No flips: most characters read differently then.
    """
    height, width, _ = image_shape
    padded = np.pad(images.reshape(-1, *image_shape), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    for top, left in ((1, 1), (2, 1), (0, 1), (1, 2), (1, 0)):
        yield padded[:, top : top + height, left : left + width].reshape(images.shape)


def in_batches(blocks: Iterable[Rows], batch_size: int) -> Iterator[Rows]:
    """The same rows, `batch_size` at a time; the last batch is what remains."""
    parts: list[Rows] = []
    missing = batch_size
    for block in blocks:
        while len(block[0]):
            parts.append(tuple(array[:missing] for array in block))
            block = tuple(array[missing:] for array in block)
            missing -= len(parts[-1][0])
            if not missing:
                yield tuple(map(np.concatenate, zip(*parts, strict=True)))
                parts, missing = [], batch_size
    if parts:
        yield tuple(map(np.concatenate, zip(*parts, strict=True)))


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.mean(parts, axis=0)


def _check_finite(probabilities: np.ndarray, ids: np.ndarray, where: str) -> None:
    invalid = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(invalid):
        raise InputError(
            f"{where}: the model's output for id {ids[invalid[0]]} is not a number, so its training diverged; "
            "train again with a lower learning rate"
        )
