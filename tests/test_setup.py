import pathlib

import keras
import numpy as np
import pytest

from models.layer_types import PLAIN, training_layers
from pipeline.errors import InputError
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import load_manifest
from pipeline.train import setup
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.run_plan import make_run_plan


def configure(digits=pathlib.Path("data"), **settings):
    return TrainConfig(data=digits, run_dir=pathlib.Path("run"), **settings)


def plan(digits, **settings):
    return make_run_plan(configure(digits, **settings), load_manifest(digits), make_devices())


def test_the_inference_model_has_plain_layers_and_the_same_outputs(digits):
    planned = plan(digits, precision="float32")  # "auto" is bfloat16 on some processors, and the copy never is
    model, _ = setup.make_model(planned, make_devices())
    copy = setup.make_inference_model(model, planned)
    images = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    assert {type(layer).__module__.split(".")[0] for layer in copy.layers} == {"keras"}
    np.testing.assert_allclose(copy(images), model(images), atol=1e-6)


def no_logits(image_shape, num_classes, dtype="float32", layer_types=None):
    inputs = keras.Input(image_shape)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs)))


def no_softmax(image_shape, num_classes, dtype="float32", layer_types=None):
    inputs = keras.Input(image_shape)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="logits")(keras.layers.Flatten()(inputs)))


def no_model(image_shape, num_classes, dtype="float32", layer_types=None):
    raise RuntimeError("no weights here")


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


def twice(values):
    return values * 2


class OwnZeros(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)


def network_with(layer, num_classes, **options):
    """Of images 8x8x1."""
    inputs = keras.Input((8, 8, 1))
    logits = keras.layers.Dense(num_classes, name="logits", **options)(keras.layers.Flatten()(layer(inputs)))
    return keras.Model(inputs, keras.layers.Softmax()(logits))


def own_layer(image_shape, num_classes, dtype="float32", layer_types=None):
    return network_with(Unregistered(), num_classes)


def nested_layer(image_shape, num_classes, dtype="float32", layer_types=None):
    return network_with(keras.Sequential([keras.Input(image_shape), Unregistered()]), num_classes)


def own_activation(image_shape, num_classes, dtype="float32", layer_types=None):
    return network_with(keras.layers.Activation(twice), num_classes)


def own_initializer(image_shape, num_classes, dtype="float32", layer_types=None):
    return network_with(keras.layers.ReLU(), num_classes, kernel_initializer=OwnZeros())


def own_lambda(image_shape, num_classes, dtype="float32", layer_types=None):
    return network_with(keras.layers.Lambda(lambda values: values * 2), num_classes)


@keras.saving.register_keras_serializable()
class Registered(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


def registered_layer(image_shape, num_classes, dtype="float32", layer_types=PLAIN):
    normalization = layer_types.normalization(name="normalization")
    return network_with(lambda images: normalization(Registered()(images)), num_classes)


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (own_layer, r"model.keras could not be loaded \(.*Unregistered.*put @keras.saving.register_keras_serializable"),
        (nested_layer, "model.keras could not be loaded .*Unregistered"),
        (own_activation, "model.keras could not be loaded .*twice"),
        (own_initializer, "model.keras could not be loaded .*OwnZeros"),
        (own_lambda, "model.keras could not be loaded .*lambda"),
        (no_logits, "no layer is called logits, whose softmax is the output; models/__init__.py"),
        (no_softmax, "its output is not the softmax of its layer logits"),
        (no_model, r"RuntimeError: no weights here \(.*test_setup.py, line [0-9]+\)"),
    ],
)
def test_a_users_network_that_cannot_be_trained_is_refused(digits, builder, message):
    name = f"{__name__}:{builder.__name__}"
    with pytest.raises(InputError, match=f"--model {name}: {message}"):
        setup.make_network(name, load_manifest(digits))


@pytest.mark.parametrize("layer_types", [PLAIN, training_layers()])
def test_a_users_network_of_registered_layers_is_taken(digits, layer_types):
    model = setup.make_network(f"{__name__}:registered_layer", load_manifest(digits), layer_types=layer_types)
    assert any(isinstance(layer, layer_types.normalization) for layer in model.layers)


def test_the_learning_rate_warms_up_and_falls(digits):
    planned = plan(digits, epochs=10, batch_size=16, schedule="cosine", warmup=0.05)
    _, optimizer = setup.make_model(planned, make_devices())
    rates = []
    for step in (0, 6, 65, 130):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate.numpy()) / planned.config.peak_learning_rate)
    assert rates == pytest.approx([0.1, 1.0, 0.53, 0.01], abs=0.03)


def test_a_stream_reads_no_window_for_statistics(digits, monkeypatch):
    # A window takes a quarter of the budget, and training's stay in memory beside it.
    planned = plan(digits, batch_size=8, steps_per_call=2, feed="stream", memory_budget=10**6)
    feeds = setup.make_feeds(planned, make_devices())
    read, lengths = SplitReader.read, []

    def counted(self, reads):
        lengths.append(int(reads[:, 2].sum()))
        return read(self, reads)

    monkeypatch.setattr(SplitReader, "read", counted)
    (element,) = feeds.statistics().take(1)
    assert (element["replicas"][0]["index"].numpy() >= 0).all()
    assert max(lengths) == 16
