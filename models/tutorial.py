"""The Keras tutorial's network, for any image shape and class count."""

import keras
from keras import layers

from models.layer_types import PLAIN, LayerTypes


def make_tutorial(
    image_shape: tuple[int, int, int],
    num_classes: int,
    dtype: str = "float32",
    layer_types: LayerTypes = PLAIN,
) -> keras.Model:
    """Two 5x5x32 convolutions, pool, dropout .25, two 3x3x64, pool, dropout .25, dense 256, dropout .5, softmax.

    Args:
        image_shape: height, width, channels; 28x28x1 and 10 classes give 887,530 parameters.
        num_classes: units of the softmax.
        dtype: a Keras dtype policy, such as "mixed_bfloat16".
        layer_types: of dropout, which training exchanges.

    Returns:
        A model of [n, H, W, C] images to float32 [n, num_classes] probabilities. They are float32 under every policy,
        because a softmax over float16 logits loses the small ones (https://keras.io/api/mixed_precision).
    """
    inputs = keras.Input(image_shape, dtype=keras.DTypePolicy(dtype).compute_dtype)
    x = inputs
    for block, (filters, kernel) in enumerate(((32, 5), (64, 3))):
        for _ in range(2):
            x = layers.Conv2D(filters, kernel, padding="same", activation="relu", dtype=dtype)(x)
        # "same" keeps images of one row or column alive; at even sizes it is the tutorial's pooling.
        x = layers.MaxPooling2D(padding="same", dtype=dtype)(x)
        # Masks are drawn by name, so names must not depend on how many models a process has built.
        x = layer_types.dropout(0.25, dtype=dtype, name=f"dropout_{block}")(x)
    x = layers.Flatten(dtype=dtype)(x)
    x = layers.Dense(256, activation="relu", dtype=dtype)(x)
    x = layer_types.dropout(0.5, dtype=dtype, name="dropout_dense")(x)
    # Named, because training takes the loss from the logits: pipeline/train/step.py.
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(inputs, probabilities, name="tutorial")
