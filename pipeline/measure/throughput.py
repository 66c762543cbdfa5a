"""Images per second of the feed alone, of the step alone on a fixed batch, and of both together.

Accelerator utilisation is the rate of both over the rate of the step alone: the share of the time in which the devices
compute, as MLPerf Storage defines it (https://github.com/mlcommons/storage).
"""

import dataclasses
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.feed.dataset import Position
from pipeline.train import assemble
from pipeline.train.environment import processor_name
from pipeline.train.feeder import feed_replicas
from pipeline.train.meter import Rates, measure_rounds
from pipeline.train.strategy import Cluster

FEED, STEP, TRAIN = "feed", "step", "train"

_LEAST_MARKS = 3  # a warm-up and two intervals, however slow the work is


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Rates in images/s by kind, and what they were measured on."""

    rates: dict[str, Rates]
    machine: dict[str, Any]

    @property
    def utilisation(self) -> float:
        """Accelerator utilisation, 0..1 (noise can lift it over 1)."""
        return self.rates[TRAIN].median / self.rates[STEP].median

    @property
    def verdict(self) -> str:
        """One sentence: what holds training back."""
        share = f"the devices compute {self.utilisation:.0%} of the time"
        headroom = self.rates[FEED].median / self.rates[STEP].median
        if self.utilisation >= 0.95:
            return f"compute-bound: {share}, and the feed could deliver {headroom:,.1f} times what the step takes"
        if headroom > 1:
            return f"bound by the host's loop: {share}, though the feed is faster than the step; try --steps-per-call"
        return f"input-bound: {share}, and the feed is slower than the step; try --scale device or --feed device"

    def to_json(self) -> str:
        rates = {
            kind: {"images_per_second": rate.median, "spread": rate.spread, "rounds": rate.rounds}
            for kind, rate in self.rates.items()
        }
        found = {"rates": rates, "utilisation": self.utilisation, "verdict": self.verdict, "machine": self.machine}
        return json.dumps(found, indent=1, sort_keys=True) + "\n"

    def table(self) -> str:
        """Lines for people."""
        labels = {FEED: "feed alone", STEP: "step alone, fixed batch", TRAIN: "feed and step"}
        rows = [f"{labels[kind]:24} {rate.median:14,.0f} {rate.spread:8.0%}" for kind, rate in self.rates.items()]
        return "\n".join([f"{'':24} {'images/s':>14} {'spread':>8}", *rows, self.verdict])


def measure_throughput(
    resolved: assemble.Resolved, cluster: Cluster, rounds: int = 3, seconds: float = 2.0
) -> Throughput:
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
        yield from _for_seconds(seconds, lambda: int(next(with_counts)[1]))

    source = elements()
    fixed = next(source)
    source.close()
    numbers = itertools.count()

    def step_alone() -> Iterator[int]:
        yield from _for_seconds(seconds, lambda: int(calls.train(*fixed, next(numbers)).numpy()[2]))

    def both() -> Iterator[int]:
        running = elements()
        try:
            yield from _for_seconds(seconds, lambda: int(calls.train(*next(running), next(numbers)).numpy()[2]))
        finally:
            running.close()

    calls.train(*fixed, next(numbers))  # traced and compiled before the clock runs
    rates = measure_rounds([feed_alone, step_alone, both], rounds)
    return Throughput(dict(zip((FEED, STEP, TRAIN), rates, strict=True)), describe_machine(resolved, cluster))


def describe_machine(resolved: assemble.Resolved, cluster: Cluster) -> dict[str, Any]:
    """What a figure must be read with: processor, devices, versions and settings."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "devices": list(cluster.devices),
        "accelerator": cluster.accelerator,
        "strategy": cluster.name,
        "replicas": cluster.replicas.total,
        "precision": resolved.precision,
        "xla": False,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "batch_size": resolved.config.batch_size,
        "steps_per_call": resolved.steps.steps_per_call,
        "feed": resolved.plan.feed,
        "scale": resolved.config.scale,
        "num_examples": resolved.steps.num_examples,
        "image_shape": list(resolved.manifest.image_shape),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def _for_seconds(seconds: float, work: Callable[[], int]) -> Iterator[int]:
    """Yield what `work` returns, call by call, for so long and at least a few times."""
    end = time.perf_counter() + seconds
    for done in itertools.count(1):
        yield work()
        if done >= _LEAST_MARKS and time.perf_counter() >= end:
            return
