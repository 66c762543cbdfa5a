"""Floating-point operations: how many training takes per image, and how many a device can do per second.

The convention is that of model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B): multiplications and
additions of matrix products and convolutions count, each as one operation; the backward pass counts as two forward
passes (one product for the gradient of the inputs and one for that of the weights; the first layer needs only the
second); activations, pooling, dropout and the optimizer do not count.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

_FORWARD_AND_BACKWARD = 3
_MATMULS = 8  # per call
# Large enough that the product takes much longer than starting it. A CPU reaches its peak with smaller ones.
_MATRIX_ROWS = {"CPU": 1024, "GPU": 8192}
_COUNTED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def training_flops(model: keras.Model) -> int:
    """Operations of the forward and backward pass for one example; the model's data format is channels last.

    Raises:
        ValueError: a layer has a kernel and is neither dense nor a convolution, so its operations are unknown.
    """
    return _FORWARD_AND_BACKWARD * sum(_forward_flops(layer) for layer in model.layers)


def make_matmul(compute_dtype: str, accelerator: str = "CPU") -> Callable[[], int]:
    """A function that multiplies square matrices on the current device and returns the number of operations."""
    rows = _MATRIX_ROWS[accelerator]
    numbers = tf.random.stateless_uniform((rows, rows), (0, 0), -1.0, 1.0)
    numbers = tf.cast(numbers / rows**0.5, compute_dtype)

    @tf.function
    def multiply() -> tf.Tensor:
        product = numbers
        for _ in range(_MATMULS):
            product = tf.linalg.matmul(product, numbers)
        return tf.cast(product[0, 0], tf.float32)

    traced = multiply.get_concrete_function()

    def work() -> int:
        float(traced())  # waits for the device
        return _MATMULS * 2 * rows**3

    return work


def _forward_flops(layer: keras.layers.Layer) -> int:
    if not hasattr(layer, "kernel"):
        return 0
    if not isinstance(layer, _COUNTED):
        raise ValueError(f"{layer.name}: cannot count the operations of a {type(layer).__name__} layer")
    # Each place of the output takes one product with the whole kernel (of its group: the kernel's shape is per group).
    places = math.prod(layer.output.shape[1:-1])
    return 2 * math.prod(layer.kernel.shape) * places
