"""Loss scaling that is safe on every replica."""

from typing import Any

import keras
import tensorflow as tf


class ReplicaSafeLossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Skips the step on all replicas, and halves the scale, if any replica's gradients overflow.

    Keras 3.15 checks only the first replica, taking gradients to be summed already, which they are not: an overflow on
    the second writes infinities into every replica's weights (tests/test_loss_scale.py has the case).
    """

    def check_finite(self, grads: list[Any]) -> Any:
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None:
            return finite
        overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.logical_not(finite), tf.float32))
        return tf.equal(overflows, 0.0)
