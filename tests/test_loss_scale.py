import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.train import setup
from pipeline.train.devices import make_devices
from pipeline.train.recovery import ReplicaSafeLossScaleOptimizer
from tests.helpers.small_run import SmallRun

FINITE = 1.0


def apply_once(optimizer_class, gradients):
    """One step of SGD on a weight of 1 over two replicas with these gradients; returns each copy and the loss scale."""
    devices = make_devices("mirrored", 2)
    with devices.strategy.scope():
        weight = keras.Variable(1.0)
        optimizer = optimizer_class(keras.optimizers.SGD(0.5), initial_scale=8.0)
        optimizer.build([weight])

    @tf.function
    def step(gradient):
        devices.strategy.run(lambda g: optimizer.apply([g], [weight]), args=(gradient,))

    step(devices.distribute(tuple(tf.constant(g) for g in gradients)))
    copies = [float(copy) for copy in devices.strategy.experimental_local_results(weight.value)]
    return copies, float(keras.ops.convert_to_numpy(optimizer.dynamic_scale))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan], ids=str)
@pytest.mark.parametrize("replica", [0, 1])
def test_an_overflow_on_any_replica_skips_the_step_on_all(replica, bad):
    gradients = [FINITE, FINITE]
    gradients[replica] = bad
    copies, scale = apply_once(ReplicaSafeLossScaleOptimizer, gradients)
    assert copies == [1.0, 1.0]
    assert scale == 4.0


def test_finite_gradients_are_unscaled_summed_and_applied():
    copies, scale = apply_once(ReplicaSafeLossScaleOptimizer, [8.0, 8.0])
    assert copies == [0.0, 0.0]
    assert scale == 8.0


def test_a_run_that_begins_with_overflows_skips_them_and_trains(monkeypatch, digits, tmp_path):
    # Scaled by 2**40 every gradient overflows float16, on both replicas; each skipped step halves the scale.
    monkeypatch.setattr(
        setup, "ReplicaSafeLossScaleOptimizer", functools.partial(ReplicaSafeLossScaleOptimizer, initial_scale=2**40)
    )
    settings = {"precision": "mixed_float16", "strategy": "mirrored", "devices": 2, "recover": 1}
    run = SmallRun(monkeypatch, digits, tmp_path, **settings)
    state = run.fit()
    scale = float(keras.ops.convert_to_numpy(run.optimizer.dynamic_scale))
    skipped = state.global_step - int(keras.ops.convert_to_numpy(run.optimizer.iterations))
    assert 0 < skipped < state.global_step
    assert scale == 2.0 ** (40 - skipped)
    assert all(np.isfinite(value).all() for value in run.variables())
    assert state.recoveries == 0
    assert run.texts(f"float16 overflow kept {skipped} steps so far")


def test_keras_own_optimizer_still_needs_the_guard():
    # When this fails Keras asks every replica, and ReplicaSafeLossScaleOptimizer can go.
    copies, _ = apply_once(keras.optimizers.LossScaleOptimizer, [FINITE, -np.inf])
    assert not np.isfinite(copies).all()
