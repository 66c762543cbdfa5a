"""Whether two networks are the same, as a short text."""

import hashlib
import json

import keras


def network_fingerprint(model: keras.Model) -> str:
    """The parameter count, and a hash of the layers in their order: kinds, settings, shapes.

    It is equal under every precision and in any process. It ignores names of layers, which Keras numbers by what was
    built before, and settings that are off, which newer versions of Keras add.
    """
    layers = [
        [type(layer).__name__, _settings(layer), [list(weight.shape) for weight in layer.weights]]
        for layer in model.layers
    ]
    digest = hashlib.sha256(json.dumps(layers, sort_keys=True).encode()).hexdigest()
    return f"{model.count_params():,} parameters ({digest[:12]})"


def _settings(layer: keras.layers.Layer) -> dict[str, object]:
    plain = (bool, int, float, str, list, tuple)
    config = layer.get_config()
    return {
        name: value
        for name, value in config.items()
        if name not in ("name", "dtype") and isinstance(value, plain) and value is not False
    }
