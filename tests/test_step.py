import keras
import numpy as np
import pytest

from pipeline.feed.dataset import Position, make_resident_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.feed.resident import SplitArrays
from pipeline.train.devices import make_devices
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.step import CallResult, CompiledSteps, StepConfig
from tests.helpers.datasets import CLASSES, bars

STEPS = Steps(num_examples=100, batch_size=16, steps_per_call=4)


def make_model() -> keras.Model:
    """Without dropout, whose masks XLA draws otherwise."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    logits = keras.layers.Dense(CLASSES, name="logits")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Softmax()(logits))


def train(jit_compile: bool, on_device: bool) -> tuple[list[CallResult], list[np.ndarray]]:
    """The results of an epoch's calls, and the weights after it."""
    devices, model, optimizer = make_devices(), make_model(), keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    images, labels = bars(range(100))
    arrays = SplitArrays(images.reshape(100, -1), labels.astype(np.int32), np.arange(100))
    config = StepConfig(16, STEPS.steps_per_call, 0, (8, 8, 1), Normalization(), "float32", jit_compile)
    compiled = CompiledSteps(devices, model, optimizer, config, arrays if on_device else None)
    dataset = make_resident_dataset(None if on_device else arrays, STEPS, 0, Position(0, 0, 1), devices.replicas)
    elements = enumerate(prefetch_to_devices(dataset, devices))
    return [compiled.train(*element, 4 * k, stop=k == 1) for k, element in elements], model.get_weights()


@pytest.mark.parametrize("on_device", [False, True], ids=["host feed", "device feed"])
def test_xla_computes_the_same_steps(on_device):
    (plain, weights), (compiled, compiled_weights) = train(False, on_device), train(True, on_device)
    for expected, result in zip(plain, compiled, strict=True):
        assert result[1:4] == expected[1:4]
        np.testing.assert_allclose(result.step_losses, expected.step_losses, rtol=1e-4, atol=1e-5)
    for expected, result in zip(weights, compiled_weights, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_a_call_returns_its_sums_by_name():
    first, last = train(False, False)[0]
    assert (first.examples, last.examples) == (64, 36)  # 4 full steps; 2 full ones and one of 4 examples
    assert (first.stop, last.stop, first.finite) == (False, True, True)
    assert first.loss == pytest.approx(first.step_losses.sum(), rel=1e-6)
    assert last.step_losses[2] > 0 == last.step_losses[3]
    assert 0 <= first.correct <= 64
