"""What is said to have held a training back, of synthetic histories."""

import re

import pytest

from pipeline.api.diagnosis import diagnose_accuracy, diagnose_speed


def history_of(val_losses, losses=None, **more):
    losses = losses or [1 / (k + 1) for k in range(len(val_losses))]
    pairs = enumerate(zip(losses, val_losses, strict=True), start=1)
    return [{"epoch": k, "loss": loss, "val_loss": val, "seconds": 50.0, **more} for k, (loss, val) in pairs]


def splits_of(train=0.99, val=0.97, rows=10_000):
    return {name: {"accuracy": value, "num_examples": rows} for name, value in (("train", train), ("val", val))}


def steps_of(feed_wait, first_rate=800.0):
    return [
        {"step": 8 * k, "images_per_second": first_rate if k == 1 else 800.0, "feed_wait": feed_wait} for k in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("history", "splits", "schedule", "text"),
    [
        (history_of([0.5, 0.3, 0.2, 0.4]), splits_of(), "constant", "lowest at epoch 3 of 4 and rose by 100% while"),
        (history_of([0.5, 0.3, 0.2]), splits_of(), "constant", "still fell by 33%.*continues this run"),
        (history_of([0.5, 0.3, 0.2]), splits_of(), "cosine", "the cosine schedule has ended, so give a new run"),
        (history_of([0.2, 0.2]), splits_of(), "cosine", r"97.00%: 2.00 points less, where chance gives 0.40\."),
        (history_of([0.2, 0.2]), splits_of(0.975, 0.974), "cosine", r"\(97.40% right\) do as well .*the last epoch"),
        (history_of([0.2]), splits_of(0.9, 0.9), "cosine", "one epoch shows no trend"),
        (history_of([None]), splits_of(), "cosine", "No rows validate"),
    ],
    ids=["over-fitting", "falling", "falling, schedule", "gap", "no gap", "one epoch", "no validation"],
)
def test_accuracy(history, splits, schedule, text):
    assert re.search(text, diagnose_accuracy(history, splits, "val", schedule))


@pytest.mark.parametrize("rise", [[0.2, 0.25], [0.2, 0.15]])
def test_what_few_wrong_rows_make_is_noise(rise):
    text = diagnose_accuracy(history_of(rise), splits_of(0.999, 0.998, rows=1000), "val", "constant")
    assert "do as well" in text


def test_a_loss_that_rises_with_that_of_training_is_not_over_fitting():
    text = diagnose_accuracy(history_of([0.2, 0.4], [0.1, 0.3]), splits_of(0.97, 0.97), "val", "constant")
    assert "over-fitting;" not in text.replace("no over-fitting;", "")


@pytest.mark.parametrize(
    ("steps", "more", "text"),
    [
        (steps_of(0.4), {}, "waited for batches 40% of the time, so the feed held it back"),
        (steps_of(0.01), {}, "waited for batches 1.0% of the time, so the step set its pace"),
        (steps_of(0.01), {"gpu_utilisation": 0.97}, "the GPU was busy 97% of it"),
        (steps_of(0.01), {"gpu_utilisation": 0.5}, "The GPU was busy 50% of the time, held back by the host"),
        (steps_of(0.4), {"gpu_utilisation": 0.5}, "held back by the feed"),
        (steps_of(0.4, first_rate=8.0), {}, "The first 8 steps, which compile, took 64.0 of 100.0 s"),
    ],
    ids=["feed", "step", "busy GPU", "idle GPU", "idle GPU, feed", "compiling"],
)
def test_speed(steps, more, text):
    assert text in diagnose_speed(history_of([0.3, 0.2], **more), steps, batch_size=64)


def test_few_rows_say_nothing_of_the_speed():
    assert diagnose_speed(history_of([0.3]), steps_of(0.4)[:2], 64) is None
    assert diagnose_speed([], [], 64) is None
