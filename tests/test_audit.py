import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.feed import dataset
from pipeline.feed.order import PageOrder, Steps
from pipeline.feed.stream import SplitReader
from pipeline.train.audit import EpochAudit, check_epoch
from pipeline.train.devices import make_devices
from pipeline.train.progress import StopRequested
from tests.helpers.datasets import bars, write_dataset
from tests.helpers.small_run import SmallRun, StopAfter


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """60 rows to train on, whose ids are 1000, 1003, 1006, ..."""
    images, labels = bars(range(60))
    rows = {"train": (images, labels, 1000 + 3 * np.arange(60))}
    return write_dataset(tmp_path_factory.mktemp("numbered") / "data", rows)


@pytest.fixture
def start(numbered, tmp_path):
    """Start or resume a run on them, audited unless the settings say otherwise."""

    def make(**settings):
        common = {"epochs": 2, "batch_size": 8, "steps_per_call": 1, "memory_budget": 10**6}
        return SmallRun(numbered, tmp_path / "run", **{**common, **settings})

    return make


def stop_after(run, calls):
    stopper = StopAfter(calls)
    with pytest.raises(StopRequested):
        run.fit([stopper], stopper.signal)


def complete(epoch):
    return {"epoch": epoch, "complete": True, "examples": 60}


@pytest.mark.parametrize(("feed", "devices"), [("host", 1), ("device", 4), ("stream", 4)])
def test_a_run_that_saw_each_example_once_reports_it(start, feed, devices):
    run = start(feed=feed, strategy="mirrored", devices=devices)
    run.fit()
    assert run.events("audit") == [complete(1), complete(2)]
    assert run.texts("audit") == [f"audit of epoch {epoch}: 60 of 60 examples, each once" for epoch in (1, 2)]


@pytest.mark.parametrize("feed", ["host", "device", "stream"])
def test_an_example_missing_and_one_repeated_are_named_by_their_ids(start, monkeypatch, feed):
    orders = []

    def wrong(function):
        def order(*args):
            """The order without its sixth example, and with its tenth twice."""
            orders.append(function(*args))
            return np.concatenate([orders[-1][:5], orders[-1][9:10], orders[-1][6:]])

        return order

    run = start(feed=feed, checkpoint_every=2)
    monkeypatch.setattr(dataset, "epoch_order", wrong(dataset.epoch_order))
    monkeypatch.setattr(PageOrder, "window_order", wrong(PageOrder.window_order))
    with pytest.raises(InputError, match=r"^the audit of epoch 1 failed: 1 of 60 examples missing ") as failed:
        run.fit()
    rows = orders[0]
    if feed == "stream":
        reader = SplitReader(run.config.data, run.plan.manifest, "train")
        pages = reader.page_order(10**6, 1, Steps(203, 8).share_of(0, 1))
        rows = reader.read(pages.window_reads(pages.pages(0, 0), 0))[1][rows]
    missing, repeated = (1000 + 3 * int(rows[place]) for place in (5, 9))
    assert f"missing (id {missing}); 1 of 60 trained on more than once (id {repeated}); " in str(failed.value)
    # The epoch is not kept as finished: what is on disk is from before its last steps.
    assert run.store.restore_newest(run.model, run.optimizer)[0].epoch == 0


def test_counting_continues_after_a_stop_also_on_other_replicas(start):
    stop_after(start(strategy="mirrored", devices=1, feed="stream"), 1)
    stop_after(start(strategy="mirrored", devices=4, feed="stream"), 2)
    last = start(strategy="mirrored", devices=2, feed="stream")
    last.fit()
    assert last.events("audit") == [complete(1), complete(2)]


def test_steps_trained_twice_after_a_resume_are_reported(start):
    stop_after(start(), 2)
    run = start()
    state, _ = run.store.restore_newest(run.model, run.optimizer)
    state = dataclasses.replace(state, step=1, global_step=1, totals=(*state.totals[:2], 8.0))
    message = r"failed: 16 of 60 trained on more than once \(ids (\d+, ){5}\.\.\. 16 in all\)"
    with pytest.raises(InputError, match=message):
        run.trainer.fit(state)


@pytest.mark.parametrize("audited_first", [True, False])
def test_an_epoch_that_was_partly_not_counted_is_not_checked(start, audited_first):
    # Without, then with; or with, then without, then with: either way a part of the first epoch is not counted.
    for audit in (True, False) if audited_first else (False,):
        stop_after(start(audit=audit), 1)  # it stops with the call after
    last = start()
    last.fit()
    assert last.events("audit") == [{"epoch": 1, "complete": False, "examples": 60}, complete(2)]
    assert last.texts("audit")[0] == "epoch 1 began without --audit, so the audit begins with epoch 2"


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 1, 0, 1, 0], r"1 of 4 examples missing \(id 20\);"),
        ([0] * 9 + [0], r"9 of 9 examples missing \(ids 0, 10, 20, 30, 40, ... 9 in all\);"),
        ([1, 1, 7, 2, 0], r"2 of 4 trained on more than once \(ids 20, 30\);"),
        ([1, 1, 1, 1, 3], r"rows that are not in the split \(3 or more\)"),
    ],
    ids=["one missing", "all missing", "repeated", "unknown"],
)
def test_incomplete_epochs_are_described(counts, message):
    with pytest.raises(InputError, match=message):
        check_epoch(bytes(counts), 1, lambda rows: rows * 10)


def test_rows_that_are_not_in_the_split_are_counted_apart():
    devices = make_devices("mirrored", 2)
    audit = EpochAudit(devices.strategy, 3)
    audit.start()
    parts = devices.distribute((tf.constant([0, -1]), tf.constant([3, 99])))
    weights = devices.distribute((tf.constant([1.0, 0.0]), tf.constant([1.0, 1.0])))
    tf.function(lambda: devices.strategy.run(audit.count, args=(parts, weights)))()
    assert audit.read() == bytes([1, 0, 0, 2])
