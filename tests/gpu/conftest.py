"""Everything here needs a GPU, and takes at most three minutes on one."""

import pytest
import tensorflow as tf

from pipeline.train import devices as train_devices
from pipeline.train.devices import Devices, make_devices


def pytest_collection_modifyitems(items):
    if not tf.config.list_physical_devices("GPU"):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU: TensorFlow lists none"))


@pytest.fixture(autouse=True)
def accelerator():
    """TF32 rounds to 10 bits, which would hide a wrong step, so it is off while a test runs."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield "GPU"
    tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.fixture
def gpu(accelerator) -> Devices:
    """The first GPU."""
    return make_devices("one", 1)


@pytest.fixture
def cpu(monkeypatch) -> Devices:
    """The processor of the same machine, as if it had no GPU."""
    with monkeypatch.context() as patch:
        patch.setattr(train_devices, "_list_gpus", lambda: [])
        return make_devices("one", 1)
