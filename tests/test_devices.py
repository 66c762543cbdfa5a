import dataclasses
import json

import pytest
import tensorflow as tf

from pipeline.errors import InputError, TryAgainError
from pipeline.feed.dataset import Replicas
from pipeline.train import devices as devices_module
from pipeline.train.devices import choose_precision, make_devices, precision_remark
from pipeline.train.environment import prepare_environment


@pytest.mark.parametrize(
    ("name", "count", "expected", "replicas"),
    [("auto", None, "one", 1), ("one", None, "one", 1), ("auto", 2, "mirrored", 2), ("mirrored", 4, "mirrored", 4)],
)
def test_the_strategy_follows_from_the_devices(name, count, expected, replicas):
    devices = make_devices(name, count)
    assert (devices.name, devices.accelerator) == (expected, "CPU")
    assert devices.replicas == Replicas(replicas, 0, replicas)
    assert devices.strategy.num_replicas_in_sync == replicas
    assert devices.describe().startswith(f"{expected}: {replicas} CPU replica(s) (CPU:0")


@pytest.mark.parametrize(
    ("name", "devices", "message"),
    [
        ("mirrored", 0, "--devices 0: ask for 1 to 256 logical CPUs"),
        ("mirrored", 64, r"--devices 64: TensorFlow already runs with 4 logical CPU\(s\)"),
        ("one", 2, "--strategy one uses one device, not --devices 2"),
        ("multiworker", None, "needs TF_CONFIG"),
    ],
)
def test_devices_that_cannot_be_had_are_refused(monkeypatch, name, devices, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match=message):
        make_devices(name, devices)


def test_an_empty_tf_config_is_none(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    prepare_environment()
    assert make_devices("mirrored", 2).replicas.total == 2


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "[]",
        json.dumps({"cluster": {"worker": ["a:1"]}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}),
    ],
    ids=["no JSON", "no object", "no task", "a task out of range"],
)
def test_a_tf_config_that_cannot_be_used_is_refused(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match="TF_CONFIG is not a cluster that can be used"):
        make_devices("multiworker")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2"}, "float32"), ({"avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16"), (set(), "float32")],
)
def test_a_processor_gets_bfloat16_where_it_is_native(monkeypatch, flags, expected):
    monkeypatch.setattr(devices_module, "processor_flags", lambda: flags)
    assert choose_precision("auto", "CPU") == expected


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
    ("precision", "flags", "said"),
    [("mixed_bfloat16", set(), True), ("mixed_bfloat16", {"avx512_bf16"}, False), ("float32", set(), False)],
    ids=["emulated", "native", "float32"],
)
def test_an_emulated_precision_is_said_to_be_slow(monkeypatch, precision, flags, said):
    monkeypatch.setattr(devices_module, "processor_flags", lambda: flags)
    assert bool(precision_remark(precision, "CPU")) == said


def test_a_precision_asked_for_is_taken():
    assert choose_precision("mixed_float16", "CPU") == "mixed_float16"


LOST = "Collective ops is aborted by: recvmsg:Connection reset by peer from /job:worker/replica:0/task:1 while calling"


@pytest.mark.parametrize(
    ("text", "said"), [(LOST, "worker 1 ended or cannot be reached"), ("heartbeat timeout", "another worker ended or")]
)
def test_a_worker_that_is_gone_is_one_line_that_names_it(text, said):
    several = dataclasses.replace(make_devices(), num_workers=3)
    with pytest.raises(TryAgainError, match=rf"^{said}.*, so this one \(0 of 3\) ends too"), several.watching_workers():
        raise tf.errors.UnavailableError(None, None, text)


def test_without_other_workers_an_error_stays_what_it_is():
    with pytest.raises(tf.errors.UnavailableError), make_devices().watching_workers():
        raise tf.errors.UnavailableError(None, None, LOST)
