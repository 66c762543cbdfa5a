"""The network for the best figures below a million parameters."""

from typing import Any

import keras
from keras import layers

from models.layer_types import PLAIN, LayerTypes


def make_residual(
    image_shape: tuple[int, int, int],
    num_classes: int,
    dtype: str = "float32",
    layer_types: LayerTypes = PLAIN,
    width: int = 48,
    pairs: int = 1,
    dropout: float = 0.2,
) -> keras.Model:
    """Three stages of `width`, 2 `width` and 4 `width` channels at 1/2, 1/4 and 1/8 of the image's side.

    The first two end in residual pairs of 3x3 convolutions. Each convolution is pooled before it is normalized, so
    that normalization touches a quarter of the pixels; the first is 5x5. The head sees mean and maximum over the image.
    Source of the shape: airbench (Jordan, arXiv 2404.00498). Arguments as of `make_tutorial`.

    Args:
        width: channels of the first stage; 48 gives 443,000 parameters at 28x28x1 and 10 classes.
        pairs: residual pairs of each of the first two stages; the third has one less.
        dropout: of the head's features.
    """
    inputs = keras.Input(image_shape, dtype=keras.DTypePolicy(dtype).compute_dtype)
    block = _Blocks(dtype, layer_types)
    x = block.convolve(inputs, width, kernel=5, pool=True)
    x = block.stage(x, width, pairs, pool=False)
    x = block.stage(x, 2 * width, pairs)
    x = block.stage(x, 4 * width, pairs - 1)
    pooled = [layers.GlobalAveragePooling2D(dtype=dtype)(x), layers.GlobalMaxPooling2D(dtype=dtype)(x)]
    x = layer_types.dropout(dropout, dtype=dtype, name="dropout_head")(layers.Concatenate(dtype=dtype)(pooled))
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32", name="probabilities")(logits), name="residual")


class _Blocks:
    def __init__(self, dtype: str, layer_types: LayerTypes) -> None:
        self._dtype, self._normalization, self._count = dtype, layer_types.normalization, 0

    def stage(self, x: Any, filters: int, pairs: int, pool: bool = True) -> Any:
        x = self.convolve(x, filters, pool=pool)
        for _ in range(pairs):
            y = self.convolve(self.convolve(x, filters), filters, relu=False)
            x = layers.ReLU(dtype=self._dtype)(layers.Add(dtype=self._dtype)([x, y]))
        return x

    def convolve(self, x: Any, filters: int, kernel: int = 3, pool: bool = False, relu: bool = True) -> Any:
        x = layers.Conv2D(
            filters, kernel, padding="same", use_bias=False, kernel_initializer="he_normal", dtype=self._dtype
        )(x)
        if pool:
            x = layers.MaxPooling2D(padding="same", dtype=self._dtype)(x)
        self._count += 1
        # A momentum of 0.9 follows weights that a short one-cycle run changes fast; Keras's 0.99 lags behind.
        x = self._normalization(momentum=0.9, dtype=self._dtype, name=f"normalization_{self._count}")(x)
        return layers.ReLU(dtype=self._dtype)(x) if relu else x
