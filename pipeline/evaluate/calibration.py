"""Probabilities that mean what they say: one temperature, fitted on validation and stored in the exported model.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluate.predict import KnownRows, Rows, make_predictor
from pipeline.evaluate.saved_run import takes_pixels
from pipeline.feed.normalize import Normalization

if TYPE_CHECKING:
    import keras

NUM_BINS = 15  # as in the paper

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_MAX_ROWS = 10_000  # evenly spread; one parameter needs no more


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A temperature and what it changed on the `num_examples` rows of `split` that it was fitted on.

    Losses are mean cross-entropies in nats. `skipped` is the reason if nothing was fitted; the temperature is then 1.
    """

    split: str
    num_examples: int
    temperature: float = 1.0
    uncalibrated_loss: float | None = None
    loss: float | None = None
    uncalibrated_ece: float | None = None
    ece: float | None = None
    skipped: str = ""

    @property
    def text(self) -> str:
        """One line for the terminal."""
        if self.skipped:
            return f"calibration: none ({self.skipped})"
        return (
            f"calibration: temperature {self.temperature:.3f} from {self.num_examples:,} rows of {self.split}; "
            f"log loss {self.uncalibrated_loss:.4f} -> {self.loss:.4f}, "
            f"ECE {self.uncalibrated_ece:.2%} -> {self.ece:.2%}"
        )


def calibrate(
    model: "keras.Model", normalization: Normalization, rows: Rows, split: str, batch_size: int
) -> tuple[Calibration, KnownRows | None]:
    """Fit a temperature on labelled rows, of at most 10,000 evenly spread ones, and fold it into the model.

    The model is changed in place: afterwards its output is softmax(logits / temperature). It stays as it is unless its
    output is the softmax of a Dense layer named "logits", or if every row is right, which gives no finite optimum.

    Returns:
        The calibration, and the changed model's probabilities of the rows that it took; None if it took none.

    Raises:
        InputError: a logit is not a number, or a batch does not fit into memory.
    """
    import keras
    from scipy.special import softmax

    count = min(len(rows[0]), _MAX_ROWS)
    chosen = np.arange(count) * len(rows[0]) // count
    rows = tuple(array[chosen] for array in rows)
    layer = find_logits(model)
    if layer is None:
        return Calibration(split, count, skipped="the output is not the softmax of a Dense layer named logits"), None
    head = takes_pixels(keras.Model(model.input, layer.output), normalization)
    predict = make_predictor(head, model.input_shape[1:], batch_size)
    logits, labels = np.concatenate([values for _, values in predict([rows], f"split {split}")]), rows[1]
    if (logits.argmax(axis=1) == labels).all():
        known = KnownRows(chosen, softmax(logits, axis=1))
        return Calibration(split, count, skipped=f"all {count:,} rows of {split} are right"), known
    temperature = fit_temperature(logits, labels)
    fold_temperature(layer, temperature)
    (loss, ece), (new_loss, new_ece) = (_measure(logits / value, labels) for value in (1.0, temperature))
    known = KnownRows(chosen, softmax(logits / np.float32(temperature), axis=1))
    return Calibration(split, count, temperature, loss, new_loss, ece, new_ece), known


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T from 0.05 to 20 for which softmax(logits / T) has the lowest log loss.

    Args:
        logits: float32 [n, C]; logarithms of probabilities serve as well.
        labels: int [n] in 0..C-1.
    """
    from scipy.optimize import minimize_scalar

    # The loss is convex in 1/T (a log-sum-exp of linear functions), so it has one minimum in log T as well.
    bounds = math.log(_MIN_TEMPERATURE), math.log(_MAX_TEMPERATURE)
    result = minimize_scalar(lambda x: _log_loss(logits / math.exp(x), labels), bounds=bounds, method="bounded")
    return math.exp(result.x)


def fold_temperature(layer: "keras.layers.Dense", temperature: float) -> None:
    """Divide kernel and bias by the temperature, which divides the layer's output by it; argmax does not change."""
    for variable in layer.weights:
        variable.assign(variable / temperature)


def find_logits(model: "keras.Model") -> "keras.layers.Dense | None":
    """The linear Dense layer named "logits" whose softmax is the model's output; None if there is no such layer."""
    import keras

    layer = next((layer for layer in model.layers if layer.name == "logits"), None)
    if not isinstance(layer, keras.layers.Dense) or layer.activation is not keras.activations.linear:
        return None
    softmaxes = [layer for layer in model.layers if isinstance(layer, keras.layers.Softmax)]
    direct = any(softmax.input is layer.output and softmax.output is model.output for softmax in softmaxes)
    return layer if direct else None


def reliability(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """float64 [15, 3] of confidence bins (k/15, (k+1)/15]: number of rows, mean confidence, accuracy; 0 if empty.

    Args:
        confidence: float [n], the probability of the predicted class.
        correct: bool [n].
    """
    bins = np.digitize(confidence, np.linspace(0, 1, NUM_BINS + 1)[1:-1], right=True)
    rows, confidences, hits = (
        np.bincount(bins, weights=weights, minlength=NUM_BINS) for weights in (None, confidence, correct)
    )
    filled = np.maximum(rows, 1)
    return np.column_stack([rows, confidences / filled, hits / filled])


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Sum over 15 bins of (rows in the bin / n) * |accuracy - mean confidence|; Guo et al., equation 3."""
    rows, confidences, accuracies = reliability(confidence, correct).T
    return float((rows * np.abs(accuracies - confidences)).sum() / rows.sum())


def _measure(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Log loss and ECE."""
    from scipy.special import softmax

    correct = logits.argmax(axis=1) == labels
    return _log_loss(logits, labels), expected_calibration_error(softmax(logits, axis=1).max(axis=1), correct)


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    from scipy.special import log_softmax

    mean = log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean(dtype=np.float64)
    return float(0 - mean)  # minus would make it -0.0 if no prediction is wrong at all
