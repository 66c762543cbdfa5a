"""Dropout whose mask is a pure function of (seed, step, layer, place in the global batch).

Keras draws masks from a mutable seed variable: every replica gets the same numbers, and a checkpoint does not bring
the variable back. Here nothing is stored. The numbers are those that Philox gives for the whole global batch, and a
replica takes its own rows by starting the counter there, so 1 and 8 replicas drop the same units of the same examples.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_PER_COUNT = 4  # uint32 numbers that one value of Philox's counter gives (Salmon et al., SC 2011: philox4x32)


@dataclasses.dataclass(frozen=True)
class DropoutState:
    """Which masks to draw: the run's seed, the global step, the position of this replica's first row in the batch."""

    seed: int
    step: tf.Tensor  # int64 scalar
    first_row: tf.Tensor  # int32 scalar


_state: contextvars.ContextVar[DropoutState | None] = contextvars.ContextVar("dropout_state", default=None)


@contextlib.contextmanager
def dropout_state(state: DropoutState) -> Iterator[None]:
    """Set the state that `StepDropout` layers called within draw their masks from."""
    token = _state.set(state)
    try:
        yield
    finally:
        _state.reset(token)


class StepDropout(keras.layers.Layer):
    """Like `keras.layers.Dropout`, with masks from the surrounding `dropout_state`; training needs one."""

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), not {rate}")
        self.rate = rate
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        state = _state.get()
        if state is None:
            raise RuntimeError("StepDropout in training needs models.dropout.dropout_state around the call")
        uniform = self._uniform(state, tf.shape(inputs)[0], inputs.shape[1:])
        kept = uniform >= self.rate
        scaled = inputs * tf.cast(1 / (1 - self.rate), inputs.dtype)
        return tf.where(kept, scaled, tf.zeros_like(inputs))

    def _uniform(self, state: DropoutState, rows: tf.Tensor, shape: Any) -> tf.Tensor:
        """float32 [rows, *shape] in [0, 1): rows `first_row ...` of the numbers for the whole batch."""
        units = shape.num_elements()
        # Whole counts per row, so that a row's numbers start at a count of their own on any replica.
        counts = -(-units // _PER_COUNT)
        first = tf.cast(state.first_row, tf.uint64) * tf.constant(counts, tf.uint64)
        counter = tf.stack([first, tf.cast(state.step, tf.uint64)])
        key = tf.constant([_mix(state.seed, self.name)], tf.uint64)
        flat = tf.raw_ops.StatelessRandomUniformV2(
            shape=tf.stack([rows, counts * _PER_COUNT]), key=key, counter=counter, alg=_PHILOX, dtype=tf.float32
        )
        return tf.reshape(flat[:, :units], tf.concat([[rows], shape], axis=0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


def _mix(seed: int, name: str) -> int:
    """64-bit FNV-1a of the seed and the layer's place in the model, so that no two layers share a stream."""
    value = 0xCBF29CE484222325  # FNV's offset basis; the factor below is its prime
    for byte in f"{seed}/{name}".encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value
