"""GPU counters during training, from a module pynvml that stands in for nvidia-ml-py's."""

import dataclasses
import pathlib
import sys
import time
from types import SimpleNamespace

import pytest
from tensorflow.python.client import device_lib

from pipeline.train import gpu_monitor, run_plan
from pipeline.train.devices import make_devices
from pipeline.train.gpu_monitor import GpuMonitor, idle_reason, make_gpu_monitor
from tests.helpers import small_run

FAKE_NVML = str(pathlib.Path(small_run.__file__).parent / "fake_nvml")


@pytest.fixture
def gpus(monkeypatch):
    """Devices that pass for the two GPUs of the fake NVML, which TensorFlow numbers the other way round."""
    monkeypatch.setattr(gpu_monitor, "_SECONDS", 0.001)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(FAKE_NVML)
    local = [
        SimpleNamespace(
            device_type="GPU", physical_device_desc=f"name: NVIDIA H200, pci bus id: {address}, compute 9.0"
        )
        for address in ("0000:41:00.0", "0000:01:00.0")
    ]
    monkeypatch.setattr(device_lib, "list_local_devices", lambda: local)
    yield dataclasses.replace(make_devices("mirrored", 2), accelerator="GPU")
    sys.modules.pop("pynvml", None)


def sample(monitor, seconds=5.0):
    """The first reading that says something, or what there is after so many seconds."""
    with monitor:
        end = time.monotonic() + seconds
        while not (reading := monitor.read()) and time.monotonic() < end:
            time.sleep(0.01)
    return reading


def test_utilisation_is_averaged_over_gpus_and_memory_is_that_of_the_fullest(gpus):
    monitor = make_gpu_monitor(gpus)
    assert monitor.works
    assert sample(monitor) == {"gpu_utilisation": pytest.approx(0.6), "gpu_memory_gib": 2.0}
    monitor.read()
    assert monitor.read() == {}


def test_only_the_gpus_that_train_are_read(gpus):
    first = make_gpu_monitor(dataclasses.replace(gpus, names=gpus.names[:1]))
    assert sample(first) == {"gpu_utilisation": pytest.approx(0.8), "gpu_memory_gib": 2.0}


def test_a_monitor_can_be_entered_again(gpus):
    monitor = make_gpu_monitor(gpus)
    assert sample(monitor) and sample(monitor)


@pytest.mark.parametrize("name", ["init", "handle"])
def test_without_a_working_nvml_nothing_is_read(gpus, monkeypatch, name):
    monkeypatch.setenv("FAKE_NVML_FAILS", name)
    assert not make_gpu_monitor(gpus).works


def test_a_gpu_without_counters_ends_the_sampling_quietly(gpus, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_FAILS", "rates")
    assert sample(make_gpu_monitor(gpus), seconds=0.1) == {}


def test_it_does_nothing_without_nvml_or_a_gpu(gpus, monkeypatch):
    for monitor in (GpuMonitor(), make_gpu_monitor(make_devices("one"))):
        assert not monitor.works and sample(monitor, seconds=0.0) == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert not make_gpu_monitor(gpus).works


@pytest.mark.parametrize(
    ("utilisation", "feed_wait", "stage", "option"),
    [(0.5, 0.02, "the host, which", "--xla"), (0.5, 0.4, "the feed (waited for 40%", "--feed device")],
)
def test_what_holds_a_gpu_back_is_named_with_the_options(utilisation, feed_wait, stage, option):
    text = idle_reason(utilisation, feed_wait)
    assert text.startswith("the GPU was busy 50% of the time, held back by") and stage in text and option in text
    assert idle_reason(0.95, feed_wait) is None


def test_a_training_prints_and_keeps_the_counters_and_names_its_bottleneck(gpus, monkeypatch, digits, tmp_path):
    monkeypatch.setattr(small_run, "make_devices", lambda *_: gpus)
    monkeypatch.setattr(run_plan, "device_memory", lambda devices: 8 << 30)
    run = small_run.SmallRun(digits, tmp_path / "run", epochs=2)
    history = run.fit().history
    for event, row in zip(run.events("epoch"), history, strict=True):
        assert event == row and 0 <= event["feed_wait"] <= 1
        assert event["gpu_utilisation"] == pytest.approx(0.6) and event["gpu_memory_gib"] == 2.0
    assert len(run.texts("GPU 60% busy  2.0 GiB of its memory in use")) == 2
    (bottleneck,) = run.events("bottleneck")
    assert bottleneck["epoch"] == 2 and bottleneck["gpu_utilisation"] == pytest.approx(0.6)
    (text,) = run.texts("held back by")
    assert text.startswith("the GPU was busy 60% of the time, held back by the ")
