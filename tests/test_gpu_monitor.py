import dataclasses
import time

import pytest

from pipeline.train import gpu_monitor
from pipeline.train.devices import make_devices
from pipeline.train.gpu_monitor import GpuMonitor, idle_reason, make_gpu_monitor
from tests.helpers.nvml import Nvml
from tests.helpers.small_run import SmallRun


@pytest.fixture
def gpus(monkeypatch):
    """Devices that pass for two GPUs."""
    monkeypatch.setattr(gpu_monitor, "_SECONDS", 0.001)
    monkeypatch.setattr(gpu_monitor, "bus_addresses", lambda devices: ["0000:01:00.0", "0000:41:00.0"])
    return dataclasses.replace(make_devices("mirrored", 2), accelerator="GPU")


def sample(monitor, seconds=5.0):
    """The first reading that says something, or what there is after so many seconds."""
    with monitor:
        end = time.monotonic() + seconds
        while not (reading := monitor.read()) and time.monotonic() < end:
            time.sleep(0.01)
    return reading


def test_utilisation_is_averaged_over_gpus_and_memory_is_that_of_the_fullest(gpus):
    nvml = Nvml()
    monitor = make_gpu_monitor(gpus, nvml)
    assert monitor.works and nvml.addresses == ["0000:01:00.0", "0000:41:00.0"]
    reading = sample(monitor)
    assert reading == {"gpu_utilisation": pytest.approx(0.6), "gpu_memory_gib": 2.0}
    monitor.read()
    assert monitor.read() == {}


def test_a_monitor_can_be_entered_again(gpus):
    monitor = make_gpu_monitor(gpus, Nvml())
    assert sample(monitor) and sample(monitor)


@pytest.mark.parametrize("broken", ["init", "handle"])
def test_without_a_working_nvml_nothing_is_read(gpus, broken):
    assert not make_gpu_monitor(gpus, Nvml(broken)).works


def test_a_gpu_without_counters_ends_the_sampling_quietly(gpus):
    assert sample(make_gpu_monitor(gpus, Nvml("rates")), seconds=0.1) == {}


def test_on_this_machine_it_does_nothing_where_nvml_is_absent(gpus):
    for monitor in (GpuMonitor(), make_gpu_monitor(make_devices("one"))):
        assert not monitor.works and sample(monitor, seconds=0.0) == {}


@pytest.mark.parametrize(
    ("utilisation", "feed_wait", "stage", "option"),
    [(0.5, 0.02, "the host, which", "--xla"), (0.5, 0.4, "the feed (waited for 40%", "--feed device")],
)
def test_what_holds_a_gpu_back_is_named_with_the_options(utilisation, feed_wait, stage, option):
    text = idle_reason(utilisation, feed_wait)
    assert text.startswith("the GPU was busy 50% of the time, held back by") and stage in text and option in text
    assert idle_reason(0.95, feed_wait) is None


def test_epochs_and_their_bottleneck_are_events(monkeypatch, digits, tmp_path):
    run = SmallRun(digits, tmp_path / "run", epochs=2)
    reading = {"gpu_utilisation": 0.25, "gpu_memory_gib": 2.0}
    monkeypatch.setattr(run.trainer._gpus, "read", lambda: dict(reading))
    history = run.fit().history
    for event, row in zip(run.events("epoch"), history, strict=True):
        assert event == row and 0 <= event["feed_wait"] <= 1 and event["gpu_utilisation"] == 0.25
    (bottleneck,) = run.events("bottleneck")
    assert bottleneck["epoch"] == 2 and bottleneck["gpu_utilisation"] == 0.25
