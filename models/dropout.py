"""Dropout whose mask is a pure function of (seed, step, layer, place in the global batch)."""

from typing import Any

import keras
import tensorflow as tf

from models.step_state import current_state


class StepDropout(keras.layers.Layer):
    """Like `keras.layers.Dropout`, with masks from the surrounding `step_state`; training needs one.

    Masks are drawn by the layer's name, which must be the same in every process: name the layer.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), not {rate}")
        self.rate = rate
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        uniform = current_state().uniform(self.name, tf.shape(inputs)[0], inputs.shape[1:].num_elements())
        kept = tf.reshape(uniform, tf.shape(inputs)) >= self.rate
        scaled = inputs * tf.cast(1 / (1 - self.rate), inputs.dtype)
        return tf.where(kept, scaled, tf.zeros_like(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
