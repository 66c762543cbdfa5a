"""Put on the path, it stands in for nvidia-ml-py, whose library comes with NVIDIA's driver only.

Two GPUs, busy 40% and 80% of the time; FAKE_NVML_FAILS names a function that fails.
"""

import os
from types import SimpleNamespace

ADDRESSES = ["0000:01:00.0", "0000:41:00.0"]


class NVMLError(Exception):
    """What NVML's calls raise."""


def _call(name):
    if os.environ.get("FAKE_NVML_FAILS") == name:
        raise NVMLError(name)


def nvmlInit():  # noqa: N802
    _call("init")


def nvmlDeviceGetHandleByPciBusId(address):  # noqa: N802
    _call("handle")
    return 1 + ADDRESSES.index(address)


def nvmlDeviceGetUtilizationRates(handle):  # noqa: N802
    _call("rates")
    return SimpleNamespace(gpu=40 * handle, memory=1)


def nvmlDeviceGetMemoryInfo(handle):  # noqa: N802
    return SimpleNamespace(used=handle << 30)
