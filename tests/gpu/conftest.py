"""Everything here needs a GPU, and takes at most three minutes on one.

With REHEARSE_GPU=1 a processor passes for it, so that a change can be tried without one.
"""

import dataclasses
import os

import pytest
import tensorflow as tf

from pipeline.train import devices as train_devices
from pipeline.train import run_plan
from pipeline.train.devices import Devices, make_devices

REHEARSES = os.environ.get("REHEARSE_GPU") == "1"


def pytest_collection_modifyitems(items):
    if not (REHEARSES or tf.config.list_physical_devices("GPU")):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU: TensorFlow lists none"))


@pytest.fixture(autouse=True)
def accelerator():
    """TF32 rounds to 10 bits, which would hide a wrong step, so it is off while a test runs."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield "CPU" if REHEARSES else "GPU"
    tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.fixture
def gpu(accelerator, monkeypatch) -> Devices:
    """The first GPU."""
    if REHEARSES:
        monkeypatch.setattr(run_plan, "device_memory", lambda devices: 8 << 30)
    return dataclasses.replace(make_devices("one", 1), accelerator="GPU")


@pytest.fixture
def cpu(monkeypatch) -> Devices:
    """The processor of the same machine, as if it had no GPU."""
    with monkeypatch.context() as patch:
        patch.setattr(train_devices, "_list_gpus", lambda: [])
        return make_devices("one", 1)


@pytest.fixture
def gpu_details():
    """What TensorFlow says of the first GPU."""
    if REHEARSES:
        pytest.skip("a rehearsal has no GPU")
    return tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
