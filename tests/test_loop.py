import dataclasses

import keras
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.order import Steps
from pipeline.train.stop import StopRequested, StopSignal
from tests.helpers.small_run import SmallRun, without_times


@pytest.fixture
def start(monkeypatch, digits, tmp_path):
    """Start (or go on with) a run; `name` tells runs of one test apart."""

    def make(name="run", **settings):
        return SmallRun(monkeypatch, digits, tmp_path / name, **settings)

    return make


def assert_same_weights(left, right, tolerance=0.0):
    for a, b in zip(left.variables(), right.variables(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_it_learns(start):
    history = start(epochs=6).fit().history
    assert history[-1]["val_accuracy"] > 0.9
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_same_settings_give_the_same_bits(start):
    first, second = start("first"), start("second")
    assert without_times(first.fit().history) == without_times(second.fit().history)
    assert_same_weights(first, second)


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "mirrored", "devices": 2},
        {"strategy": "mirrored", "devices": 4},
        {"feed": "device"},
        {"scale": "host"},
    ],
    ids=["2 replicas", "4 replicas", "device feed", "scaled on the host"],
)
def test_how_it_is_computed_does_not_change_what(start, settings):
    plain, other = start("plain", epochs=1), start("other", epochs=1, **settings)
    rows = plain.fit().history, other.fit().history
    assert_same_weights(plain, other, tolerance=1e-5)
    assert rows[0][0]["val_accuracy"] == pytest.approx(rows[1][0]["val_accuracy"], abs=0.021)


class StopAfter(keras.callbacks.Callback):
    """Ask the run to stop, as a signal would, once so many calls are done."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.signal = calls, StopSignal()

    def on_train_batch_end(self, batch, logs=None):
        self.calls -= 1
        if self.calls == 0:
            self.signal.signum = 15


@pytest.mark.parametrize("feed", ["host", "stream"])
def test_a_run_stopped_twice_ends_as_an_unbroken_one(start, feed):
    whole = start("whole", feed=feed)
    expected = whole.fit().history
    for calls in (1, 3):
        stopper = StopAfter(calls)
        with pytest.raises(StopRequested, match="the same command goes on from there"):
            start("broken", feed=feed).fit([stopper], stopper.signal)
    last = start("broken", feed=feed)
    assert without_times(last.fit().history) == without_times(expected)
    assert_same_weights(whole, last)


def test_a_resume_on_other_replicas_goes_on_with_the_same_examples(start):
    whole = start("whole")
    whole.fit()
    stopper = StopAfter(2)
    with pytest.raises(StopRequested):
        start("broken").fit([stopper], stopper.signal)
    last = start("broken", strategy="mirrored", devices=4)
    last.fit()
    assert_same_weights(whole, last, tolerance=1e-4)


def test_a_run_of_uneven_calls_goes_on_in_calls_of_their_length(start, monkeypatch):
    with monkeypatch.context() as patch:
        # As versions before even calls cut an epoch: 13 steps into 6, 6 and 1.
        patch.setattr(Steps, "in_even_calls", lambda steps, most: dataclasses.replace(steps, steps_per_call=most))
        whole, broken = start("whole", steps_per_call=6), start("broken", steps_per_call=6)
    whole.fit()
    stopper = StopAfter(2)
    with pytest.raises(StopRequested):
        broken.fit([stopper], stopper.signal)
    last = start("broken", steps_per_call=None, earlier=broken.resolved.identity())
    last.fit()
    assert_same_weights(whole, last)


def test_checkpoints_inside_an_epoch_come_at_the_calls_that_pass_their_steps(start):
    saved = []
    run = start(epochs=1, checkpoint_every=5)
    save = run.store.save
    run.store.save = lambda model, optimizer, state, best: (
        saved.append(state.global_step),
        save(model, optimizer, state, best),
    )
    run.fit()
    assert saved == [8, 12, 13]


class Recorder(keras.callbacks.Callback):
    """Keeps what Keras callbacks are told."""

    def __init__(self) -> None:
        super().__init__()
        self.events = []

    def on_train_begin(self, logs=None):
        self.events.append("begin")

    def on_epoch_end(self, epoch, logs=None):
        self.events.append((epoch, sorted(logs)))

    def on_train_batch_end(self, batch, logs=None):
        self.events.append(batch)

    def on_train_end(self, logs=None):
        self.events.append("end")


def test_keras_callbacks_see_the_run(start):
    recorder = Recorder()
    start(epochs=1).fit([recorder])
    keys = ["accuracy", "images_per_second", "learning_rate", "loss", "seconds", "val_accuracy", "val_loss"]
    assert recorder.events == ["begin", 3, 7, 11, 12, (0, keys), "end"]


def test_keras_early_stopping_stops_it(start):
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=100.0)
    assert len(start(epochs=5).fit([stopping]).history) == 2


def test_patience_ends_a_run_and_is_remembered_by_its_history(start):
    settings = {"epochs": 30, "patience": 2, "schedule": "constant"}
    history = start(**settings).fit().history
    scores = [row["val_accuracy"] for row in history]
    assert len(history) < 30
    assert len(scores) - 1 - scores.index(max(scores)) == 2
    assert without_times(start(**settings).fit().history) == without_times(history)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(start):
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in step 1 \(epoch 1, step 1\), "):
        start(learning_rate=1e30, schedule="constant").fit()


def test_tensorboard_gets_scalars_and_weight_histograms(start, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(epochs=1).fit([keras.callbacks.TensorBoard(str(tmp_path / "tb"), histogram_freq=1, write_graph=False)])
    read = EventAccumulator(str(tmp_path / "tb" / "train"), size_guidance={"tensors": 0})
    tags = set(read.Reload().Tags()["tensors"])
    assert {"epoch_loss", "epoch_accuracy", "epoch_images_per_second"} <= tags
    assert any("kernel" in tag and "histogram" in tag for tag in tags)
