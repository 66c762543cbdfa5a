"""Four logical CPUs stand in for four GPUs; they must be set up before TensorFlow starts."""

import signal

import pytest

from pipeline.train.environment import import_tensorflow

tf = import_tensorflow()
_CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 4)
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)  # or nothing is left for the commands that tests start
tf.config.list_logical_devices()  # now TensorFlow runs, and no benchmark can add devices for the tests after it
# A job that a shell runs in the background ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A data set of 203 train, 50 val and 31 unlabelled test rows of 8x8 digits; see tests/helpers/datasets.py."""
    from tests.helpers.datasets import write_digits

    return write_digits(tmp_path_factory.mktemp("data") / "digits")
