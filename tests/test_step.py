import keras
import numpy as np
import pytest

from pipeline.feed.dataset import Position, make_resident_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.feed.resident import SplitArrays
from pipeline.train.devices import make_devices
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.step import CompiledSteps, StepConfig
from tests.helpers.datasets import CLASSES, bars

STEPS = Steps(num_examples=100, batch_size=16, steps_per_call=4)


def make_model() -> keras.Model:
    """Without dropout, whose masks XLA draws otherwise."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    logits = keras.layers.Dense(CLASSES, name="logits")(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Softmax()(logits))


def train(jit_compile: bool, on_device: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Totals of each call of an epoch, and the weights after it."""
    devices, model, optimizer = make_devices(), make_model(), keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    images, labels = bars(range(100))
    arrays = SplitArrays(images.reshape(100, -1), labels.astype(np.int32), np.arange(100))
    config = StepConfig(16, STEPS.steps_per_call, 0, (8, 8, 1), Normalization(), "float32", jit_compile)
    calls = CompiledSteps(devices, model, optimizer, config, arrays if on_device else None)
    dataset = make_resident_dataset(None if on_device else arrays, STEPS, 0, Position(0, 0, 1), devices.replicas)
    totals = [
        calls.train(*element, 4 * place).numpy() for place, element in enumerate(prefetch_to_devices(dataset, devices))
    ]
    return totals, model.get_weights()


@pytest.mark.parametrize("on_device", [False, True], ids=["host feed", "device feed"])
def test_xla_computes_the_same_steps(on_device):
    for plain, compiled in zip(train(False, on_device), train(True, on_device), strict=True):
        for expected, found in zip(plain, compiled, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
