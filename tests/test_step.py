import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.feed.dataset import Position
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.run_plan import make_run_plan
from pipeline.train.setup import make_compiled_steps, make_feeds
from pipeline.train.step import CallResult
from tests.helpers.datasets import CLASSES


def make_model() -> keras.Model:
    """Without dropout, whose masks XLA draws otherwise."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    logits = keras.layers.Dense(CLASSES, name="logits")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Softmax()(logits))


@pytest.fixture
def train(digits):
    """Trains an epoch of the digits; returns the results of its calls, and the weights after it."""

    def run(xla: bool, feed: str, replicas: int = 1) -> tuple[list[CallResult], list[np.ndarray]]:
        settings = {"batch_size": 16, "steps_per_call": 5, "precision": "float32", "xla": xla, "feed": feed}
        config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), **settings)
        devices = make_devices("auto", replicas)
        with devices.strategy.scope():
            model, optimizer = make_model(), keras.optimizers.Adam(0.01)
            optimizer.build(model.trainable_variables)
        plan = make_run_plan(config, load_manifest(digits), devices)
        feeds = make_feeds(plan, devices)
        compiled = make_compiled_steps(plan, devices, model, optimizer, feeds)
        elements = enumerate(prefetch_to_devices(feeds.train(Position(0, 0, 1)), devices))
        return [compiled.train(*element, 5 * k, stop=k == 1) for k, element in elements], model.get_weights()

    return run


@pytest.mark.parametrize(("feed", "replicas"), [("device", 1), ("host", 2), ("device", 2)])
def test_xla_computes_the_same_steps(train, feed, replicas):
    (plain, weights), (compiled, compiled_weights) = train(False, "host"), train(True, feed, replicas)
    for expected, result in zip(plain, compiled, strict=True):
        assert result[1:4] == expected[1:4]
        np.testing.assert_allclose(result.step_losses, expected.step_losses, rtol=1e-4, atol=1e-5)
    for expected, result in zip(weights, compiled_weights, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_a_call_returns_its_sums_by_name(train):
    first, second, last = train(False, "host")[0]
    # The last call has two full steps and one of 11.
    assert (first.examples, second.examples, last.examples) == (80, 80, 43)
    assert (first.stop, second.stop, last.stop) == (False, True, False)
    assert first.loss == pytest.approx(first.step_losses.sum(), rel=1e-6)
    assert last.step_losses[2] > 0 == last.step_losses[3]
    assert all(result.finite and 0 <= result.correct <= result.examples for result in (first, second, last))


def test_the_device_feed_looks_up_rows_in_each_replicas_copy_of_the_split(digits):
    config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), batch_size=16, feed="device", precision="float32")
    devices, model, optimizer = make_devices("mirrored", 2), make_model(), keras.optimizers.Adam(0.01)
    plan = make_run_plan(config, load_manifest(digits), devices)
    feeds = make_feeds(plan, devices)
    compiled = make_compiled_steps(plan, devices, model, optimizer, feeds)
    part = {"index": tf.constant([[5, -1, 7]])}
    read = tf.function(lambda: devices.strategy.run(compiled._prepare, args=(part,)))
    # A whole table as a tensor has no kernel on GPUs to gather from, so it would be copied to the host.
    tables = [op for op in read.get_concrete_function().graph.get_operations() if op.type == "ReadVariableOp"]
    for replica in devices.strategy.experimental_local_results(read()):
        _, image, label = replica
        rows = np.array([5, 0, 7])
        np.testing.assert_allclose(image.numpy().reshape(3, -1) * 255, feeds.table.images[rows], rtol=1e-6)
        np.testing.assert_array_equal(label[0], feeds.table.labels[rows])
    assert tables == []
