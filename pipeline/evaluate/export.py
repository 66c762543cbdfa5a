"""A trained model as files: model.keras for Keras, saved_model/ for TensorFlow Serving and the like."""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.feed.normalize import Normalization
from pipeline.files import replacing

if TYPE_CHECKING:
    import keras

KERAS_NAME = "model.keras"
SAVED_MODEL_NAME = "saved_model"


def export_model(
    run_dir: str | os.PathLike,
    model: "keras.Model",
    normalization: Normalization,
    class_names: Sequence[str],
) -> None:
    """Write RUN_DIR/model.keras and RUN_DIR/saved_model; each replaces an older one when it is complete.

    Args:
        run_dir: an existing directory.
        model: built from plain layers in float32, normalized [n, H, W, C] to float32 [n, num_classes] probabilities.
        normalization: becomes part of the SavedModel's graph; model.keras expects normalized images.
        class_names: one per output.

    Raises:
        ValueError: the number of outputs is not that of the names, or the model does not compute in float32.
    """
    if model.output_shape[-1] != len(class_names):
        raise ValueError(f"the model has {model.output_shape[-1]} outputs, expected {len(class_names)}, one per class")
    if model.compute_dtype != "float32" or any(layer.compute_dtype != "float32" for layer in model.layers):
        raise ValueError("the model does not compute in float32; export its float32 inference model")
    run_dir = pathlib.Path(run_dir)
    with replacing(run_dir / KERAS_NAME) as temporary:
        model.save(temporary)
    with replacing(run_dir / SAVED_MODEL_NAME) as temporary:
        write_saved_model(temporary, model, normalization, class_names)


def write_saved_model(
    directory: str | os.PathLike,
    model: "keras.Model",
    normalization: Normalization,
    class_names: Sequence[str],
) -> None:
    """Write a SavedModel whose signature `serving_default` takes plain pixels.

    It takes `images` uint8 [n, H, W, C] in 0..255, and gives `probabilities` float32 [n, num_classes], `class_names`
    string [num_classes], and `label` string [n], the name of the most probable class.
    """
    import tensorflow as tf

    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")

    @tf.function(input_signature=[images])
    def serve(images):
        names = tf.constant(list(class_names), tf.string)
        probabilities = model(normalization.apply(images), training=False)
        label = tf.gather(names, tf.argmax(probabilities, axis=-1))
        return {"probabilities": probabilities, "class_names": names, "label": label}

    module: Any = tf.Module()
    # The variables alone: with the Keras model itself the file would hold Keras's own objects and functions too.
    module.variables_of_model = [variable.value for variable in model.variables]
    module.serve = serve
    tf.saved_model.save(module, os.fspath(directory), signatures=serve)
