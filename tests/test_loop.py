import dataclasses
import os
import re
import signal

import keras
import pytest

from pipeline.errors import InputError
from pipeline.feed.order import Steps
from pipeline.train.progress import StopRequested, listen_for_stop
from tests.helpers.small_run import (
    SmallRun,
    StopAfter,
    assert_same_weights,
    steps_without_times,
    stored_run,
    without_times,
)


@pytest.fixture
def start(digits, tmp_path):
    """Start or resume a run; `name` tells runs of one test apart."""

    def make(name="run", **settings):
        return SmallRun(digits, tmp_path / name, **settings)

    return make


def test_it_learns(start):
    history = start(epochs=6).fit().history
    assert history[-1]["val_accuracy"] > 0.9
    assert history[-1]["loss"] < history[0]["loss"]


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
def test_how_it_is_computed_does_not_change_the_result(start, settings):
    plain, other = start("plain", epochs=1), start("other", epochs=1, **settings)
    rows = plain.fit().history, other.fit().history
    assert_same_weights(plain, other, tolerance=1e-5)
    assert rows[0][0]["val_accuracy"] == pytest.approx(rows[1][0]["val_accuracy"], abs=0.021)


def test_rows_of_steps_add_up_to_the_epoch(start):
    state = start(epochs=1).fit()
    (epoch,), rows = state.history, state.step_rows
    assert sum(row.loss for row in rows) / 203 == pytest.approx(epoch["loss"])
    assert sum(row.examples for row in rows) == 203
    assert sum(row.seconds for row in rows) == pytest.approx(epoch["seconds"])
    assert rows[-1].learning_rate == pytest.approx(epoch["learning_rate"])


def test_every_epoch_is_an_event_with_typed_fields(start):
    run = start(epochs=2)
    history = run.fit().history
    assert run.events("epoch") == history
    assert run.events("audit") == [{"epoch": epoch, "complete": True, "examples": 203} for epoch in (1, 2)]


@pytest.mark.parametrize("feed", ["host", "stream"])
def test_a_run_stopped_twice_ends_as_an_uninterrupted_one(start, feed):
    settings = {"feed": feed, "memory_budget": 10**6}
    whole = start("whole", **settings)
    expected = whole.fit()
    for calls, place, resumed in ((1, (1, 8), []), (3, (2, 8), [{"epoch": 1, "step": 8, "global_step": 8}])):
        run, stopper = start("stopped", **settings), StopAfter(calls)
        with pytest.raises(StopRequested):
            run.fit([stopper], stopper.signal)
        (event,) = run.events("stopped")
        assert (event["epoch"], event["step"], event["signal"]) == (*place, 15)
        assert run.events("resumed") == resumed
    last = start("stopped", **settings)
    state = last.fit()
    assert without_times(state.history) == without_times(expected.history)
    assert steps_without_times(state) == steps_without_times(expected)
    assert [row.step for row in state.step_rows] == [4, 8, 12, 13, 17, 21, 25, 26, 30, 34, 38, 39]
    assert_same_weights(whole, last)


def test_a_stream_resumes_inside_an_epoch_only_on_as_many_workers(start):
    settings = {"feed": "stream", "memory_budget": 10**6}
    run, stopper = start(**settings), StopAfter(1)
    with pytest.raises(StopRequested):
        run.fit([stopper], stopper.signal)
    state, _ = run.store.restore_newest(run.model, run.optimizer)
    state.dealt_to = 4
    run.store.save(run.model, run.optimizer, state)
    message = r"inside epoch 1 of a stream dealt to 4 worker\(s\), not 1; resume with 4"
    with pytest.raises(InputError, match=message):
        start(**settings).trainer.restore()


def test_a_resume_on_other_replicas_trains_on_the_same_examples(start):
    whole = start("whole")
    whole.fit()
    stopper = StopAfter(2)
    with pytest.raises(StopRequested):
        start("stopped").fit([stopper], stopper.signal)
    last = start("stopped", strategy="mirrored", devices=4)
    last.fit()
    assert_same_weights(whole, last, tolerance=1e-4)


def test_a_run_of_uneven_calls_is_resumed_in_calls_of_their_length(start, monkeypatch):
    with monkeypatch.context() as patch:
        # 13 steps in calls of 6, 6 and 1, as a stored plan may have them.
        patch.setattr(Steps, "in_even_calls", lambda steps, most: dataclasses.replace(steps, steps_per_call=most))
        whole, stopped = start("whole", steps_per_call=6), start("stopped", steps_per_call=6)
    whole.fit()
    stopper = StopAfter(2)
    with pytest.raises(StopRequested):
        stopped.fit([stopper], stopper.signal)
    last = start("stopped", steps_per_call=None, earlier=stored_run(stopped.plan))
    last.fit()
    assert_same_weights(whole, last)


@pytest.mark.parametrize(
    ("epochs", "place"), [(1, "after the last epoch; run .* to write"), (2, "before epoch 2, step 0")]
)
def test_a_signal_during_validation_stops_the_run_after_the_epoch(start, epochs, place):
    run = start(epochs=epochs)
    with pytest.raises(StopRequested) as stopped, listen_for_stop() as stop:
        run.fit([keras.callbacks.LambdaCallback(on_test_end=lambda logs: os.kill(os.getpid(), signal.SIGTERM))], stop)
    assert stopped.value.exit_code == 143
    assert [event["global_step"] for event in run.events("stopped")] == [13]
    assert re.search(place, run.texts("stopped")[0])
    assert run.store.restore_newest(run.model, run.optimizer)[0].epoch == 1


def test_checkpoints_inside_an_epoch_come_at_the_calls_that_pass_their_steps(start, monkeypatch):
    saved = []
    run = start(epochs=1, checkpoint_every=5)
    save = run.store.save
    monkeypatch.setattr(
        run.store, "save", lambda m, o, state, best: (saved.append(state.global_step), save(m, o, state, best))
    )
    run.fit()
    assert saved == [8, 12, 13]


def test_keras_early_stopping_stops_it(start):
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=100.0)
    assert len(start(epochs=5).fit([stopping]).history) == 2


def test_patience_ends_a_run_and_follows_from_its_history(start):
    settings = {"epochs": 30, "patience": 2, "schedule": "constant"}
    history = start(**settings).fit().history
    scores = [row["val_accuracy"] for row in history]
    assert len(history) < 30
    assert len(scores) - 1 - scores.index(max(scores)) == 2
    assert without_times(start(**settings).fit().history) == without_times(history)


def test_a_run_that_has_more_epochs_than_are_wanted_now_is_finished(start):
    start(schedule="constant", epochs=3).fit()
    assert start(schedule="constant", epochs=2).fit().epoch == 3
