"""A plain object stands in for nvidia-ml-py's module, because its library comes with NVIDIA's driver only."""

from types import SimpleNamespace


class NvmlError(Exception):
    """What NVML's calls raise."""


class Nvml:
    """Two GPUs, busy 40% and 80% of the time; `broken` names a function that fails."""

    NVMLError = NvmlError

    def __init__(self, broken=""):
        self.broken, self.addresses = broken, []

    def _call(self, name):
        if name == self.broken:
            raise NvmlError(name)

    def nvmlInit(self):  # noqa: N802
        self._call("init")

    def nvmlDeviceGetHandleByPciBusId(self, address):  # noqa: N802
        self._call("handle")
        self.addresses.append(address)
        return len(self.addresses)

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        self._call("rates")
        return SimpleNamespace(gpu=40 * handle, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return SimpleNamespace(used=handle << 30)
