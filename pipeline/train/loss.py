"""The loss of each example: cross-entropy, with the label smoothing and class weights of a recipe."""

import numpy as np
import tensorflow as tf


def cross_entropy(
    logits: tf.Tensor, label: tf.Tensor, smoothing: float = 0.0, class_weights: tf.Tensor | None = None
) -> tf.Tensor:
    """float32 [n] of logits float32 [n, num_classes] and labels int [n].

    Args:
        smoothing: share of the target that is spread evenly over all classes.
        class_weights: float32 [num_classes], by which the losses of a class are multiplied.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
    if smoothing:
        uniform = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
        losses = (1 - smoothing) * losses + smoothing * uniform
    return losses if class_weights is None else losses * tf.gather(class_weights, label)


def balanced_weights(counts: np.ndarray) -> tf.Tensor:
    """float32 [num_classes] n / (classes * n of the class), as of scikit-learn's "balanced"."""
    return tf.constant(counts.sum() / (len(counts) * np.maximum(counts, 1)), tf.float32)
