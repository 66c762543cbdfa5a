"""How many floating-point operations training on an image takes, and how many a device can do a second.

The convention is that of model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B): multiplications and
additions of matrix products and convolutions count, each as one operation; the backward pass is two forward passes
(one product for the gradient of the inputs, one for that of the weights, also in the first layer, which needs only the
second); activations, pooling, dropout and the optimizer do not count.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

import keras
import tensorflow as tf

_FORWARD_AND_BACKWARD = 3
_MATMUL_ROWS = 1024  # square matrices of so many rows are past the size where calls cost as much as products
_MATMULS = 8

_COUNTED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclasses.dataclass(frozen=True)
class Peak:
    """Operations a second of all devices together, and where the figure is from."""

    flops_per_second: float
    source: str


def training_flops(model: keras.Model) -> int:
    """Operations of forward and backward pass for one example; the model's data format is channels last.

    Raises:
        ValueError: a layer has a kernel and is neither dense nor a convolution, so it would be left out unsaid.
    """
    return _FORWARD_AND_BACKWARD * sum(_forward_flops(layer) for layer in model.layers)


def data_sheet_peak(gpus: Sequence[str], compute_dtype: str, tensor_float_32: bool = True) -> Peak | None:
    """What NVIDIA states for GPUs of these names (as TensorFlow reports them), or None where one is not in the table.

    Args:
        gpus: a name for each device.
        compute_dtype: float32, float16 or bfloat16.
        tensor_float_32: whether float32 products may use TF32, as TensorFlow's default is.
    """
    known = [_of_gpu(name, compute_dtype, tensor_float_32) for name in gpus]
    if None in known or not known:
        return None
    return Peak(sum(known), f"data sheet, {compute_dtype} without sparsity: {', '.join(gpus)}")


def make_matmul(compute_dtype: str):
    """A function that multiplies square matrices on the current device and returns the operations done, as an int."""
    numbers = tf.random.stateless_uniform((_MATMUL_ROWS, _MATMUL_ROWS), (0, 0), -1.0, 1.0)
    numbers = tf.cast(numbers / _MATMUL_ROWS**0.5, compute_dtype)

    @tf.function
    def multiply():
        product = numbers
        for _ in range(_MATMULS):
            product = tf.linalg.matmul(product, numbers)
        return tf.cast(product[0, 0], tf.float32)

    traced = multiply.get_concrete_function()

    def work() -> int:
        float(traced())
        return _MATMULS * 2 * _MATMUL_ROWS**3

    return work


def _forward_flops(layer: keras.layers.Layer) -> int:
    if not hasattr(layer, "kernel"):
        return 0
    if not isinstance(layer, _COUNTED):
        raise ValueError(f"{layer.name}: operations of a {type(layer).__name__} are not known")
    # Each place of the output is one product of the whole kernel (of its group's part, which the kernel's shape has).
    places = math.prod(layer.output.shape[1:-1])
    return 2 * math.prod(layer.kernel.shape) * places


def _of_gpu(name: str, compute_dtype: str, tensor_float_32: bool) -> float | None:
    for pattern, peaks in _GPUS:
        if re.fullmatch(pattern, name.removeprefix("NVIDIA ").removeprefix("GeForce ").removeprefix("Tesla ")):
            if compute_dtype == "float32":
                compute_dtype = "tf32" if tensor_float_32 and "tf32" in peaks else "float32"
            return peaks[compute_dtype] * 1e12 if compute_dtype in peaks else None
    return None


def _peaks(float32: float, half: float, tf32: float | None = None) -> dict[str, float]:
    """TFLOP/s without sparsity; GPUs with TF32 compute bfloat16 as fast as float16, older ones have no bfloat16."""
    if tf32 is None:
        return {"float32": float32, "float16": half}
    return {"float32": float32, "float16": half, "bfloat16": half, "tf32": tf32}


# NVIDIA's data sheets of each product (https://www.nvidia.com/en-us/data-center/), for GeForce the white papers of
# GA102 and AD102 with float32 accumulation, which training uses. Sheets that state figures with sparsity are halved.
# Names must match in full: an A10G is not an A10, nor a part of a GPU (MIG) a whole one.
_GPUS = (
    (r"T4", _peaks(8.1, 65)),
    (r"V100-SXM2-\d+GB", _peaks(15.7, 125)),
    (r"V100-PCIE-\d+GB", _peaks(14, 112)),
    (r"A100[- ](SXM4|PCIE)-\d+GB|A100 80GB PCIe", _peaks(19.5, 312, 156)),
    (r"A10", _peaks(31.2, 125, 62.5)),
    (r"L4", _peaks(30.3, 121, 60)),
    (r"H100 80GB HBM3", _peaks(67, 989.5, 494.5)),
    (r"H100 PCIe", _peaks(51, 756.5, 378)),
    (r"H100 NVL", _peaks(60, 835.5, 417.5)),
    (r"H200", _peaks(67, 989.5, 494.5)),
    (r"H200 NVL", _peaks(60, 835.5, 417.5)),
    (r"RTX 3090", _peaks(35.6, 71, 35.6)),
    (r"RTX 4090", _peaks(82.6, 165.2, 82.6)),
)
