"""Images per second of the feed alone, of the step alone on a fixed batch, and of both together.

Accelerator utilisation is the rate of both over the rate of the step alone: the share of the time in which the devices
compute, as MLPerf Storage defines it (https://github.com/mlcommons/storage).
"""

import itertools
import sys
from collections.abc import Iterator

import tensorflow as tf

from pipeline.feed.dataset import Position
from pipeline.measure.machine import describe_training
from pipeline.measure.results import Results, Row, ratio_of
from pipeline.measure.timing import for_seconds
from pipeline.train import assemble
from pipeline.train.feeder import feed_replicas
from pipeline.train.meter import measure_rounds
from pipeline.train.strategy import Cluster

FEED, STEP, TRAIN = "feed", "step", "train"


def verdict_of(feed: float, step: float, train: float) -> str:
    """One sentence on rates in images/s: what holds training back."""
    share = f"the devices compute {train / step:.0%} of the time"
    headroom = feed / step
    if train / step >= 0.95:
        return f"compute-bound: {share}, and the feed could deliver {headroom:,.1f} times what the step takes"
    if headroom > 1:
        return f"bound by the host's loop: {share}, though the feed is faster than the step; try --steps-per-call"
    return f"input-bound: {share}, and the feed is slower than the step; try --scale device or --feed device"


def measure_throughput(resolved: assemble.Resolved, cluster: Cluster, rounds: int = 3, seconds: float = 2.0) -> Results:
    """Measure the training that `resolved` describes; nothing is saved.

    Args:
        rounds: how often each of the three is measured; they take turns.
        seconds: how long one measurement runs at least.
    """
    model, optimizer = assemble.make_model(resolved, cluster)
    feeds = assemble.make_feeds(resolved, cluster)
    calls = assemble.make_calls(resolved, cluster, model, optimizer, feeds)

    def elements():
        return feed_replicas(feeds.train(Position(0, 0, sys.maxsize)), cluster)

    def feed_alone() -> Iterator[int]:
        with_counts = ((parts, float(tf.reduce_sum(count))) for parts, count in elements())
        yield from for_seconds(seconds, lambda: int(next(with_counts)[1]))

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
    rates = measure_rounds([feed_alone, step_alone, both], rounds)
    notes = "feed alone", "step alone, on a fixed batch", "feed and step"
    rows = [Row(name, note, found) for name, note, found in zip((FEED, STEP, TRAIN), notes, rates, strict=True)]
    feed, step, train = (row.rates.median for row in rows)
    return Results(
        TRAIN,
        rows,
        describe_training(resolved, cluster),
        ratios=[ratio_of(rows[2], rows[1]), ratio_of(rows[0], rows[1])],
        figures={"accelerator utilisation": train / step},
        verdict=verdict_of(feed, step, train),
    )
