"""What NVIDIA's own counters (NVML) say of the GPUs that a run trains on; without NVML everything here does nothing."""

import importlib
import re
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from pipeline.train.devices import Devices

# NVML itself averages over a sixth of a second to a second, depending on the GPU.
_SECONDS = 0.2
_BUSY, _WAITING = 0.9, 0.1  # shares of an epoch: a GPU that is so busy has no problem; waiting for so long is one


class GpuMonitor:
    """Reads the counters in a thread while it is entered.

    Args:
        nvml: the module pynvml of nvidia-ml-py, initialised.
        handles: NVML's handles of the GPUs; without any, `read` returns nothing.
    """

    def __init__(self, nvml: Any = None, handles: Sequence[Any] = ()) -> None:
        self._nvml, self._handles = nvml, handles
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._busy: list[float] = []
        self._memory = 0

    def __enter__(self) -> "GpuMonitor":
        if self._handles:
            self._stop.clear()
            self._thread = threading.Thread(target=self._sample_until_stopped, name="gpu-monitor", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def works(self) -> bool:
        """Whether there is a counter to read."""
        return bool(self._handles)

    def read(self) -> dict[str, float]:
        """What was sampled since the last reading; nothing if no sample was taken.

        Returns:
            `gpu_utilisation`, the share of the time (0..1) in which a kernel ran, averaged over samples and GPUs: it
            says that a GPU had work, not that it was used well; `gpu_memory_gib`, the most that one GPU had in use,
            by all processes.
        """
        with self._lock:
            busy, memory, self._busy, self._memory = self._busy, self._memory, [], 0
        return {"gpu_utilisation": sum(busy) / len(busy), "gpu_memory_gib": memory / 2**30} if busy else {}

    def _sample_until_stopped(self) -> None:
        while not self._stop.wait(_SECONDS):
            try:
                busy = [self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100 for handle in self._handles]
                memory = [self._nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in self._handles]
            except self._nvml.NVMLError:
                return  # some virtual GPUs have no counters; training does not need them
            with self._lock:
                self._busy += busy
                self._memory = max(self._memory, *memory)


def make_gpu_monitor(devices: Devices) -> GpuMonitor:
    """A monitor of this worker's GPUs; one that reads nothing if there is none, or no NVML, or no nvidia-ml-py."""
    if devices.accelerator != "GPU":
        return GpuMonitor()
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # no module, no library, no driver: pynvml has an error class for each
        return GpuMonitor()
    try:
        # TensorFlow's numbers follow CUDA_VISIBLE_DEVICES and differ from NVML's; the bus address is the same.
        return GpuMonitor(nvml, [nvml.nvmlDeviceGetHandleByPciBusId(address) for address in bus_addresses(devices)])
    except nvml.NVMLError:
        return GpuMonitor()


def idle_reason(utilisation: float, feed_wait: float) -> str | None:
    """One line on what held a GPU back, with the options that may help; None if it was busy.

    Args:
        utilisation: share of an epoch in which the GPUs had work.
        feed_wait: share of it in which the loop waited for a batch.
    """
    if utilisation >= _BUSY:
        return None
    stage, options = (
        "the host, which starts the GPU's kernels",
        "more --steps-per-call, a larger --batch-size, or --xla",
    )
    if feed_wait > _WAITING:
        stage, options = f"the feed (waited for {feed_wait:.0%} of the time)", "--feed device"
    return (
        f"the GPU was busy {utilisation:.0%} of the time, held back by {stage}; try {options}; see tools/benchmark.py"
    )


def bus_addresses(devices: Devices) -> list[str]:
    """The PCI addresses of this worker's GPUs, such as 0000:01:00.0, in the order of `devices.names`."""
    from tensorflow.python.client import device_lib  # type: ignore[attr-defined]  # the only source of the address

    gpus = [device for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    found = [re.search(r"pci bus id: ([0-9a-fA-F:.]+)", gpu.physical_device_desc) for gpu in gpus]
    return [match[1] for match in found[: len(devices.names)] if match]
