"""Batch normalization whose statistics are those of the examples of the global batch: no padding, every replica."""

from typing import Any

import keras
import tensorflow as tf

from models.step_state import current_state


def move_towards(average: tf.Variable, value: tf.Tensor, share: float | tf.Tensor) -> None:
    """Assign `average - share * (average - value)`, by one kernel of a GPU besides the difference."""
    tf.raw_ops.ResourceApplyGradientDescent(var=average.handle, alpha=share, delta=average - value)


class StepNormalization(keras.layers.Layer):
    """Like `keras.layers.BatchNormalization`, with the statistics of the surrounding step's whole batch.

    Padding rows do not count, and the sums are added over replicas, so that 1 and 8 replicas agree and an epoch's last
    batch does not count its padding. Its weights are those of Keras's layer in the same order, which it is exported as.
    Training needs a `step_state`; statistics are float32.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self._vector("gamma", "ones", shape[-1])
        self.beta = self._vector("beta", "zeros", shape[-1])
        # Every replica computes the same statistics, so each keeps its own copy and the first one's is saved.
        held: dict[str, Any] = {"synchronization": "on_read", "aggregation": "only_first_replica", "trainable": False}
        self.moving_mean = self._vector("moving_mean", "zeros", shape[-1], **held)
        self.moving_variance = self._vector("moving_variance", "ones", shape[-1], **held)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training:
            return self._scale(inputs, self.moving_mean.value, self.moving_variance.value)
        state = current_state()
        outputs, mean, variance = self._normalize(inputs)
        share = 1 - self.momentum if state.statistics_share is None else state.statistics_share
        for variable, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            move_towards(variable.value, value, share)
        return outputs

    def _vector(self, name: str, initializer: str, size: int | None, **options: Any) -> keras.Variable:
        # Not by add_weight, which has no synchronization.
        start = keras.initializers.get(initializer)
        return keras.Variable(start, (size,), "float32", autocast=False, name=name, **options)

    def _normalize(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalized inputs, mean and unbiased variance."""
        weight = current_state().weight
        single = tf.distribute.get_strategy().num_replicas_in_sync == 1
        if weight is None and single and inputs.shape.rank == 4:
            return self._normalize_fused(inputs)
        return self._normalize_by_sums(inputs, tf.ones(tf.shape(inputs)[0]) if weight is None else weight)

    def _normalize_fused(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # A third of the time of sums on a CPU, but without weights or other replicas.
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        return outputs, mean, variance

    def _normalize_by_sums(self, inputs: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        values = tf.cast(inputs, tf.float32)
        axes = list(range(values.shape.rank - 1))
        weighted = values * tf.reshape(weight, (-1, *[1] * len(axes)))
        positions = tf.cast(tf.reduce_prod(tf.shape(values)[1:-1]), tf.float32)
        sums = [tf.reduce_sum(weighted, axes), tf.reduce_sum(weighted * values, axes)]
        totals = tf.concat([*sums, [tf.reduce_sum(weight) * positions]], axis=0)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            totals = context.all_reduce(tf.distribute.ReduceOp.SUM, totals)
        count = tf.maximum(totals[-1], 1.0)
        mean, square = tf.split(totals[:-1] / count, 2)
        variance = tf.maximum(square - mean**2, 0.0)
        outputs = self._scale(inputs, mean, variance)
        return outputs, mean, variance * count / tf.maximum(count - 1, 1.0)

    def _scale(self, inputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        factor = self.gamma.value * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(tf.cast(inputs, tf.float32) * factor + (self.beta.value - mean * factor), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
