import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.feed.order import epoch_order
from pipeline.train import optimizer as train_optimizer
from pipeline.train.devices import make_devices
from pipeline.train.optimizer import ReplicaSafeLossScaleOptimizer, rate_at
from pipeline.train.progress import StopRequested
from pipeline.train.recovery import RATE_FACTOR, Diverged
from tests.helpers.small_run import SmallRun, StopAfter, assert_same_weights, without_times

# From it the tiny network's logits overflow float32 after the first step, and some halvings below they do not.
TOO_HIGH = {"learning_rate": 1e19, "schedule": "constant"}


@pytest.fixture
def start(digits, tmp_path):
    """Start or resume a run of one step per call; `name` tells runs of one test apart."""

    def make(name="run", **settings):
        return SmallRun(digits, tmp_path / name, **{"epochs": 2, "steps_per_call": 1, **settings})

    return make


def checkpoints(run):
    folder = run.config.run_dir / "checkpoints"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def at_batch_end(act):
    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: act(batch))


def spoil(run, step, value, layers=slice(None)):
    """Set the weights of some layers to `value` once, after the step `step` of the first epoch to come there."""
    steps = [step]

    def act(batch):
        if steps == [batch]:
            steps.clear()
            for layer in run.model.layers[layers]:
                layer.set_weights([np.full_like(weight, value) for weight in layer.get_weights()])

    return at_batch_end(act)


@pytest.mark.parametrize(
    "settings",
    [{}, {"steps_per_call": 4}, {"feed": "device"}, {"strategy": "mirrored", "devices": 2}],
    ids=["one step per call", "four steps per call", "device feed", "2 replicas"],
)
def test_a_loss_that_is_not_finite_names_step_rate_and_batch(start, settings):
    run = start(**{**TOO_HIGH, **settings})
    with pytest.raises(Diverged) as diverged:
        run.fit()
    message = str(diverged.value).replace("became inf", "became nan")  # which of the two depends on the processor
    ids = ", ".join(map(str, epoch_order(203, seed=0, epoch=0)[16:21]))  # a row's id is its number here
    assert message.startswith(
        f"the loss became nan in step 1 (epoch 1, step 1), learning rate 1e+19; the batch has ids {ids}, ... 16 in all;"
    )
    assert checkpoints(run) == {}


def test_the_last_good_checkpoint_is_left_as_it_is(start):
    seen = []
    run = start(checkpoint_every=4)
    message = r"in step 7 \(epoch 1, step 7\).*all checkpoints are from before it; add --recover 3"
    with pytest.raises(InputError, match=message):
        run.fit([spoil(run, 6, np.nan), at_batch_end(lambda _: seen.append(checkpoints(run)))])
    assert list(checkpoints(run)) == ["checkpoint-000000004.npz"]
    assert checkpoints(run) == seen[-1]


def test_what_is_not_finite_is_never_saved(start):
    # The loss of the step was finite; its update was not.
    run = start(learning_rate=1e39, schedule="constant", checkpoint_every=1)
    with pytest.raises(InputError, match=r"^weights became NaN or infinite by step 0 .* rate inf; "):
        run.fit()
    assert checkpoints(run) == {}


def test_the_last_step_of_an_epoch_is_checked_before_validation(start):
    run = start()
    message = r"^weights or .* infinite by step 12 \(epoch 1, step 12\), .* has ids (\d+, ){5}"
    with pytest.raises(InputError, match=message):
        run.fit([spoil(run, 12, np.inf)])
    assert checkpoints(run) == {}


def test_weights_that_relu_hides_are_noticed_at_once(start):
    run = start()
    # The loss alone would not tell: NaN goes into relu, and 0 comes out.
    with pytest.raises(InputError, match=r"(weights became NaN or infinite by|the loss became nan in) step 3 "):
        run.fit([spoil(run, 2, np.nan, slice(2, 3))])


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "cosine"},
        {"strategy": "mirrored", "devices": 2},
        {"precision": "mixed_float16", "learning_rate": 1e5},
        {"checkpoint_every": 1},
    ],
    ids=["cosine", "2 replicas", "float16", "checkpoint of bad weights"],
)
def test_a_run_that_diverges_goes_back_at_half_the_rate_until_it_does_not(start, settings):
    run = start(**{**TOO_HIGH, "recover": 30, **settings})
    state = run.fit()
    assert 1 <= state.recoveries < 30
    events = run.events("recovery")
    place = {"epoch": 1, "step": 0, "global_step": 0}
    assert events == [{**place, "recovery": k, "rate_factor": 0.5**k} for k in range(1, state.recoveries + 1)]
    assert run.texts("step 0 with the learning rate times 0.5 (recovery 1 of 30)")
    assert [row["epoch"] for row in state.history] == [1, 2]
    plain = start("plain", **{**TOO_HIGH, **settings, "recover": 0})
    rate = float(keras.ops.convert_to_numpy(plain.optimizer.learning_rate)) * RATE_FACTOR**state.recoveries
    if run.config.schedule == "constant":
        assert state.history[-1]["learning_rate"] == pytest.approx(rate)
    else:
        assert rate < state.history[0]["learning_rate"] < rate * 10


def test_it_ends_when_no_recovery_is_left(start):
    run = start(learning_rate=1e30, schedule="constant", recover=2)
    with pytest.raises(InputError, match="going back 2 times, to 0.25 of the rate, did not help; start again with a"):
        run.fit()
    assert len(run.events("recovery")) == 2
    again = start(learning_rate=1e30, schedule="constant", recover=2)
    with pytest.raises(InputError, match=r"learning rate 2.5e\+29; .*; going back 2 times"):
        again.fit()


def test_a_checkpoint_whose_next_step_diverged_is_not_good(start):
    # The weights of step 8's checkpoint are finite, but nothing that starts from them is.
    run = start(checkpoint_every=4, recover=1)
    state = run.fit([spoil(run, 7, 1e30)])
    (text,) = run.texts("in step 8 (epoch 1, step 8), ")
    assert text.endswith("going back to epoch 1, step 4 with the learning rate times 0.5 (recovery 1 of 1)")
    assert [row["step"] for row in state.history] == [13, 26]


class Killed(Exception):
    """What a kill looks like to a test: nothing more is written."""


def kill_after(calls):
    left = iter(range(calls - 1))

    def act(batch):
        if next(left, None) is None:
            raise Killed

    return at_batch_end(act)


def test_kill_after_a_recovery_does_not_change_the_result(start):
    settings = {**TOO_HIGH, "schedule": "cosine", "recover": 30, "checkpoint_every": 3}
    whole = start("whole", **settings)
    expected = whole.fit()
    for calls in (2, 9):
        with pytest.raises(Killed):
            start("stopped", **settings).fit([kill_after(calls)])
    stopper = StopAfter(3)
    with pytest.raises(StopRequested):
        start("stopped", **settings).fit([stopper], stopper.signal)
    last = start("stopped", **settings)
    state = last.fit()
    assert without_times(state.history) == without_times(expected.history)
    assert state.recoveries == expected.recoveries
    assert_same_weights(whole, last)


def test_the_rate_at_a_step_follows_the_schedule(start):
    run = start(schedule="cosine")
    iterations = int(run.optimizer.iterations)
    rates = [rate_at(run.optimizer, step) for step in (0, 13, 26)]
    assert rates[0] == pytest.approx(run.config.peak_learning_rate / 10)
    assert rates[0] < rates[1] > rates[2]
    assert int(run.optimizer.iterations) == iterations


@pytest.mark.parametrize(
    ("gradients", "weight", "scale"),
    [((np.inf, 1.0), 1.0, 4.0), ((1.0, -np.inf), 1.0, 4.0), ((1.0, np.nan), 1.0, 4.0), ((8.0, 8.0), 0.0, 8.0)],
    ids=["first replica", "second replica", "NaN", "finite"],
)
def test_overflow_on_any_replica_skips_the_step_on_all(gradients, weight, scale):
    devices = make_devices("mirrored", 2)
    with devices.strategy.scope():
        variable = keras.Variable(1.0)
        optimizer = ReplicaSafeLossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=8.0)
        optimizer.build([variable])
    step = tf.function(lambda g: devices.strategy.run(lambda g: optimizer.apply([g], [variable]), args=(g,)))
    step(devices.distribute(tuple(map(tf.constant, gradients))))
    copies = devices.strategy.experimental_local_results(variable.value)
    assert [float(copy) for copy in copies] == [weight, weight]
    assert float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)) == scale


def test_run_that_begins_with_overflows_skips_them_and_trains(start, monkeypatch):
    # Scaled by 2**40 every gradient overflows float16, on both replicas; each skipped step halves the scale.
    overflowing = functools.partial(ReplicaSafeLossScaleOptimizer, initial_scale=2**40)
    monkeypatch.setattr(train_optimizer, "ReplicaSafeLossScaleOptimizer", overflowing)
    run = start(precision="mixed_float16", strategy="mirrored", devices=2, recover=1)
    state = run.fit()
    skipped = state.global_step - int(keras.ops.convert_to_numpy(run.optimizer.iterations))
    assert 0 < skipped < state.global_step
    assert float(keras.ops.convert_to_numpy(run.optimizer.dynamic_scale)) == 2.0 ** (40 - skipped)
    assert all(np.isfinite(value).all() for value in run.variables())
    assert state.recoveries == 0
    assert run.texts(f"float16 overflow kept {skipped} steps so far")
