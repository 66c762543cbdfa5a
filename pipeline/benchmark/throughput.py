"""Images per second of the feed alone, of the step alone on a fixed batch, and of both together.

Accelerator utilisation is the rate of both over the rate of the step alone: the share of the time in which the devices
compute, as MLPerf Storage defines it (https://github.com/mlcommons/storage).
"""

import itertools
from collections.abc import Callable, Iterator

import tensorflow as tf

from pipeline.benchmark.consume import FOREVER, consume_in_function, images_of_call
from pipeline.benchmark.diagnosis import Stages, verdict_of
from pipeline.benchmark.machine import describe_training
from pipeline.benchmark.results import Results, Row, ratio_of
from pipeline.benchmark.timing import for_seconds, warm_up
from pipeline.train import setup
from pipeline.train.devices import Devices
from pipeline.train.meter import measure_rounds
from pipeline.train.prefetch import prefetch_to_devices

DATASET, FEED, STEP, TRAIN = "dataset", "feed", "step", "train"


def measure_throughput(resolved: setup.RunPlan, devices: Devices, rounds: int = 3, seconds: float = 2.0) -> Results:
    """Measure the training that `resolved` describes; nothing is saved.

    Args:
        rounds: how often each of the four is measured; they take turns.
        seconds: how long one measurement runs at least.
    """
    rates = measure_rounds(_work(resolved, devices, seconds), rounds)
    notes = "feed, before the hand-over", "feed alone", "step alone, on a fixed batch", "feed and step"
    rows = [
        Row(name, note, found) for name, note, found in zip((DATASET, FEED, STEP, TRAIN), notes, rates, strict=True)
    ]
    dataset, feed, step, _ = (row.rates.median for row in rows)
    # Taken round by round like any ratio: the rounds of a noisy minute are low in both.
    busy = ratio_of(rows[3], rows[2])
    stages = Stages(dataset, feed, step, busy.median * step)
    settings = resolved.plan.feed, resolved.config.scale, devices.accelerator, resolved.steps.steps_per_call
    return Results(
        TRAIN,
        rows,
        describe_training(resolved, devices),
        ratios=[busy, ratio_of(rows[1], rows[2])],
        figures={"accelerator utilisation": stages.utilisation},
        verdict=verdict_of(stages, *settings),
    )


def _work(resolved: setup.RunPlan, devices: Devices, seconds: float) -> list[Callable[[], Iterator[int]]]:
    """One measurement of the data set, of the feed, of the step and of feed and step; the first calls are behind it."""
    model, optimizer = setup.make_model(resolved, devices)
    feeds = setup.make_feeds(resolved, devices)
    calls = setup.make_compiled_steps(resolved, devices, model, optimizer, feeds)

    def elements():
        return prefetch_to_devices(feeds.train(FOREVER), devices)

    def feed_alone() -> Iterator[int]:
        with_counts = ((parts, float(tf.reduce_sum(count))) for parts, count in elements())
        yield from for_seconds(seconds, lambda: int(next(with_counts)[1]))

    per_call = resolved.steps.batch_size * resolved.steps.steps_per_call
    consume = consume_in_function(feeds.train(FOREVER), images_of_call, per_call)

    source = elements()
    fixed = next(source)
    source.close()
    numbers = itertools.count()

    def step_alone() -> Iterator[int]:
        yield from for_seconds(seconds, lambda: int(calls.train(*fixed, next(numbers)).numpy()[2]))

    def both() -> Iterator[int]:
        running = elements()
        try:
            yield from for_seconds(seconds, lambda: int(calls.train(*next(running), next(numbers)).numpy()[2]))
        finally:
            running.close()

    calls.train(*fixed, next(numbers))  # traced and compiled before the clock runs
    warm_up(seconds, consume)
    return [lambda: for_seconds(seconds, consume), feed_alone, step_alone, both]
