"""What a user's own network may do: losses of its layers count, and padding does not."""

import pathlib

import keras
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.order import epoch_order
from pipeline.format.manifest import load_manifest
from pipeline.train import setup
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.run_plan import make_run_plan
from tests.helpers.datasets import bars
from tests.helpers.small_run import PLAIN_RECIPE
from tests.helpers.steps import Steps

RATE, L2 = 0.1, 0.05
SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": RATE, "steps_per_call": 1}


def network(image_shape, num_classes, layers=(), **options):
    x = inputs = keras.Input(image_shape)
    for layer in (keras.layers.Flatten(), *layers, keras.layers.Dense(num_classes, name="logits", **options)):
        x = layer(x)
    return keras.Model(inputs, keras.layers.Softmax()(x))


def plain(image_shape, num_classes):
    return network(image_shape, num_classes)


def regularized(image_shape, num_classes):
    return network(image_shape, num_classes, kernel_regularizer=keras.regularizers.L2(L2))


def normalized(image_shape, num_classes):
    return network(image_shape, num_classes, [keras.layers.BatchNormalization(momentum=0.0)])


def active(image_shape, num_classes):
    return network(image_shape, num_classes, activity_regularizer="l2")


def after(digits, model, devices, calls=1):
    steps = Steps(digits, make_devices("mirrored", devices), model=f"{__name__}:{model}", **SGD)
    before = steps.weights()
    steps.train(calls)
    return before, steps.weights()


def test_the_loss_of_a_regularizer_counts_once_per_step_of_several_replicas(digits):
    (before, *_), (without, *_) = after(digits, "plain", 2)
    _, (kernel, *_) = after(digits, "regularized", 2)
    np.testing.assert_allclose(kernel - without, -RATE * 2 * L2 * before, atol=1e-6)


def test_padding_does_not_enter_the_statistics_of_keras_normalization(digits):
    *_, mean, _ = after(digits, "normalized", 1, calls=13)[1][:4]
    images = bars(range(203))[0].reshape(203, -1) / 255
    last = epoch_order(203, 0, 0)[12 * 16 :]
    assert len(last) == 11
    np.testing.assert_allclose(mean, images[last].mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["normalized", "active"])
@pytest.mark.parametrize(("settings", "refused"), [({"devices": 2}, True), ({"xla": True}, True), ({}, False)])
def test_layers_that_would_count_padding_are_refused_unless_it_is_dropped(digits, model, settings, refused):
    more = {**PLAIN_RECIPE, "batch_size": 16, **settings}
    config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), model=f"{__name__}:{model}", **more)
    devices = make_devices("auto", config.devices)
    plan = make_run_plan(config, load_manifest(digits), devices)
    if refused:
        with pytest.raises(InputError, match="would count the 5 rows of padding in an epoch's last batch"):
            setup.make_model(plan, devices)
    else:
        assert setup.make_model(plan, devices)


def indifferent(image_shape, num_classes):
    return network(image_shape, num_classes, kernel_initializer="zeros")


def test_balanced_class_weights_weigh_the_loss_of_each_example(digits):
    settings = {**SGD, "learning_rate": 1e-12, "model": f"{__name__}:indifferent", "class_weights": "balanced"}
    losses = Steps(digits, make_devices("one"), **settings).train(calls=3)
    labels, order = bars(range(203))[1], epoch_order(203, 0, 0)[: 3 * 16]
    weights = 203 / (3 * np.bincount(labels))  # scikit-learn's "balanced"
    np.testing.assert_allclose(losses, weights[labels[order]].reshape(3, 16).mean(axis=1) * np.log(3), rtol=1e-6)
