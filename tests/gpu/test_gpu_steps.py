"""What the training step computes on a GPU, against the processor."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.dropout import StepDropout
from models.step_state import StepState, step_state
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.train.devices import choose_precision, make_devices
from tests.helpers import faults
from tests.helpers.steps import PER_CALL, Steps

pytestmark = pytest.mark.gpu


def test_auto_precision_is_bfloat16_from_compute_capability_8(gpu_details):
    expected = "mixed_bfloat16" if gpu_details["compute_capability"] >= (8, 0) else "mixed_float16"
    assert choose_precision("auto", "GPU") == expected


@pytest.mark.usefixtures("gpu_details")
def test_memory_grows_as_it_is_needed():
    code = (
        "from pipeline.train.environment import import_tensorflow; tf = import_tensorflow()\n"
        "from pipeline.train.devices import make_devices; make_devices()\n"
        "print([tf.config.experimental.get_memory_growth(gpu) for gpu in tf.config.list_physical_devices('GPU')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=faults.ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.strip("[]\n").split(", ")) == {"True"}


@pytest.mark.parametrize("feed", ["host", "device", "stream"])
def test_each_feed_brings_the_rows_that_it_names(digits, gpu, feed):
    steps, arrays = Steps(digits, gpu, feed=feed), load_split(digits, load_manifest(digits), "train")
    prepare = tf.function(lambda parts: gpu.strategy.run(steps.compiled._prepare, args=(parts,)))
    seen = []
    for parts, _ in steps.elements(epochs=1):
        for index, image, label in zip(*(value.numpy() for value in prepare(parts)), strict=True):
            rows = index[index >= 0]
            seen += rows.tolist()
            np.testing.assert_allclose(255 * image.reshape(16, -1)[: len(rows)], arrays.images[rows], atol=1e-3)
            np.testing.assert_array_equal(label[: len(rows)], arrays.labels[rows])
    assert sorted(seen) == list(range(len(arrays)))


def test_host_and_device_feed_name_the_same_rows(digits, gpu):
    host, device = (Steps(digits, gpu, feed=feed).elements() for feed in ("host", "device"))
    for (parts, _), (other, _) in zip(host, device, strict=True):
        np.testing.assert_array_equal(parts["index"], other["index"])


def test_device_feed_keeps_the_split_on_the_gpu_and_only_indices_cross(digits, gpu, accelerator):
    steps = Steps(digits, gpu, feed="device")
    assert [table.device[-5:] for table in steps.compiled._table] == [f"{accelerator}:0"] * 2
    for parts, _ in steps.elements(epochs=1):
        assert list(parts) == ["index"]
        assert parts["index"].backing_device[-5:] == f"{accelerator}:0"


@pytest.mark.parametrize("feeds", [["host", "device"], ["stream"]], ids=["resident", "stream"])
def test_losses_are_those_of_the_processor(digits, gpu, cpu, feeds):
    expected = Steps(digits, cpu, feed=feeds[0]).train()
    assert len(expected) == 23
    for feed in feeds:
        np.testing.assert_allclose(Steps(digits, gpu, feed=feed).train(), expected, atol=1e-3, err_msg=feed)


def test_augmented_steps_with_normalization_are_those_of_the_processor(digits, gpu, cpu):
    settings = {"model": "residual,width=8", "augment": "digits", "optimizer": "sgd", "learning_rate": 0.01, "ema": 0.9}
    expected = Steps(digits, cpu, **settings).train(calls=3)
    np.testing.assert_allclose(Steps(digits, gpu, **settings).train(calls=3), expected, atol=5e-3)


def test_dropout_masks_are_those_of_the_processor():
    layer, masks = StepDropout(0.5, name="dropout"), []
    for device in ("GPU:0", "CPU:0"):
        with tf.device(device), step_state(StepState(3, tf.constant(7, tf.int64), tf.constant(5))):
            masks.append(layer(tf.ones((9, 33)), training=True).numpy())
    np.testing.assert_array_equal(*masks)


def test_xla_and_strategies_agree_with_one_gpu_alone(digits, gpu):
    settings = {"dropout": False, "feed": "device"}
    plain, mirrored = Steps(digits, gpu, **settings).train(), make_devices("mirrored", 1)
    others = {
        "one, XLA": Steps(digits, gpu, xla=True, **settings),
        "mirrored": Steps(digits, mirrored, **settings),
        # All is compiled except the optimizer.
        "mirrored, XLA": Steps(digits, mirrored, xla=True, **settings),
    }
    for name, steps in others.items():
        np.testing.assert_allclose(steps.train(), plain, atol=1e-3, err_msg=name)


def test_mixed_precision_learns_as_float32_does(digits, gpu):
    losses = Steps(digits, gpu).train()
    for precision in ("mixed_bfloat16", "mixed_float16"):
        mixed = Steps(digits, gpu, precision=precision).train()
        np.testing.assert_allclose(mixed, losses, atol=0.1, err_msg=precision)
        assert mixed[-PER_CALL:].mean() < mixed[:PER_CALL].mean()


def test_float16_overflow_skips_the_step(digits, gpu):
    steps = Steps(digits, gpu, precision="mixed_float16", steps_per_call=1)
    steps.optimizer.dynamic_scale.assign(2.0**40)
    before = steps.weights()
    (parts, count), *_ = steps.elements(epochs=1)
    assert steps.compiled.train(parts, count, 0).finite
    assert float(steps.optimizer.dynamic_scale) == 2.0**39
    for old, new in zip(before, steps.weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_runs_repeat_bit_by_bit_with_deterministic_operations(digits, accelerator, monkeypatch):
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    command = [sys.executable, "-m", "tests.gpu.train_twice", str(digits)]
    done = subprocess.run(command, cwd=faults.ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith(f"{accelerator} same bits"), done.stderr[-2000:]
