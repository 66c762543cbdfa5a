"""The layers that a network takes from its caller: those of Keras, or those that know the step they train in."""

from typing import Any, NamedTuple

from keras import layers


class LayerTypes(NamedTuple):
    """`dropout(rate, dtype=, name=)` and `normalization(dtype=, name=)`; name both, so that names repeat."""

    dropout: Any
    normalization: Any


PLAIN = LayerTypes(layers.Dropout, layers.BatchNormalization)


def layers_that_mix_rows(model: Any) -> list[str]:
    """Names of Keras's own layers whose statistics or loss are means over all rows of a replica, padding among them."""
    return [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if (isinstance(layer, layers.BatchNormalization) and layer.trainable) or layer.activity_regularizer is not None
    ]


def state_of_replicas(model: Any) -> list[Any]:
    """Variables that layers of a user's own network, such as Keras's normalization, update on each replica by its rows.

    Ours are read from one replica, because they are equal on all.
    """
    floats = (variable for variable in model.non_trainable_variables if variable.dtype == "float32")
    return [variable for variable in floats if variable.value.synchronization.name != "ON_READ"]


def training_layers() -> LayerTypes:
    """Layers whose results do not depend on the number of replicas, on padding rows or on a resume."""
    from models.dropout import StepDropout
    from models.normalization import StepNormalization

    return LayerTypes(StepDropout, StepNormalization)
