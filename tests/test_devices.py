import dataclasses
import json

import pytest
import tensorflow as tf

from pipeline.errors import InputError, TryAgainError
from pipeline.feed.dataset import Replicas
from pipeline.train import devices as devices_module
from pipeline.train.devices import choose_precision, make_devices, precision_remark


@pytest.mark.parametrize(
    ("name", "count", "expected", "replicas"),
    [("auto", None, "one", 1), ("one", None, "one", 1), ("auto", 2, "mirrored", 2), ("mirrored", 4, "mirrored", 4)],
)
def test_the_strategy_follows_from_the_devices(name, count, expected, replicas):
    devices = make_devices(name, count)
    assert (devices.name, devices.accelerator) == (expected, "CPU")
    assert devices.replicas == Replicas(replicas, 0, replicas)
    assert devices.strategy.num_replicas_in_sync == replicas
    several = "s" * (replicas > 1)
    assert devices.describe().startswith(f"strategy {expected}: {replicas} CPU replica{several} (CPU:0")


@pytest.mark.parametrize(
    ("name", "devices", "message"),
    [
        ("mirrored", 0, "--devices 0: use 1 to 256 logical CPUs"),
        ("mirrored", 64, r"--devices 64: TensorFlow already runs with 4 logical CPU\(s\)"),
        ("one", 2, "--strategy one uses one device, not --devices 2"),
        ("multiworker", None, "needs TF_CONFIG"),
    ],
)
def test_unavailable_devices_are_refused(monkeypatch, name, devices, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match=message):
        make_devices(name, devices)


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "[]",
        json.dumps({"cluster": {"worker": ["a:1"]}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}),
    ],
    ids=["not JSON", "not an object", "no task", "a task out of range"],
)
def test_an_invalid_tf_config_is_refused(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match="TF_CONFIG is not a valid cluster"):
        make_devices("multiworker")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2"}, "float32"), ({"avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16"), (set(), "float32")],
)
def test_a_processor_gets_bfloat16_if_it_is_native(monkeypatch, flags, expected):
    monkeypatch.setattr(devices_module, "processor_flags", lambda: flags)
    assert choose_precision("auto", "CPU") == expected
    assert choose_precision("mixed_float16", "CPU") == "mixed_float16"


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((9, 0), "mixed_bfloat16"), ((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")],
)
def test_a_gpu_gets_what_its_capability_computes_fastest(monkeypatch, capability, expected):
    config = devices_module.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability})
    assert choose_precision("auto", "GPU") == expected


@pytest.mark.parametrize(
    ("precision", "flags", "reported"),
    [("mixed_bfloat16", set(), True), ("mixed_bfloat16", {"avx512_bf16"}, False), ("float32", set(), False)],
    ids=["emulated", "native", "float32"],
)
def test_an_emulated_precision_is_reported_as_slow(monkeypatch, precision, flags, reported):
    monkeypatch.setattr(devices_module, "processor_flags", lambda: flags)
    assert bool(precision_remark(precision, "CPU")) == reported


LOST = "Collective ops is aborted by: recvmsg:Connection reset by peer from /job:worker/replica:0/task:1 while calling"


@pytest.mark.parametrize(
    ("text", "message"),
    [(LOST, "worker 1 ended or cannot be reached"), ("heartbeat timeout", "another worker ended or")],
)
def test_a_lost_worker_is_one_line_that_names_it(text, message):
    several = dataclasses.replace(make_devices(), num_workers=3)
    with (
        pytest.raises(TryAgainError, match=rf"^{message}.*, so this one \(0 of 3\) ends too"),
        several.watching_workers(),
    ):
        raise tf.errors.UnavailableError(None, None, text)


def test_without_other_workers_an_error_is_not_changed():
    with pytest.raises(tf.errors.UnavailableError), make_devices().watching_workers():
        raise tf.errors.UnavailableError(None, None, LOST)


def test_one_worker_agrees_with_itself():
    devices = make_devices()
    assert devices.gather({"a": [1, None]}) == [{"a": [1, None]}]
    devices.check_agreement({"seed": 0}, "never shown")


def test_a_disagreement_names_each_setting_with_every_workers_value(monkeypatch):
    several = dataclasses.replace(make_devices(), num_workers=3)
    settings = [{"seed": 0, "feed": "host"}, {"seed": 1, "feed": "host"}, {"seed": 0, "feed": "host", "xla": True}]
    monkeypatch.setattr(devices_module.Devices, "gather", lambda self, value: settings)
    message = (
        "^the workers disagree: seed is 0 on worker 0, 1 on worker 1, 0 on worker 2; "
        "xla is None on worker 0, None on worker 1, True on worker 2; fix it$"
    )
    with pytest.raises(InputError, match=message):
        several.check_agreement({}, "fix it")
