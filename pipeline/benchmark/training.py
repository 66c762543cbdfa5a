"""Images per second of the training step on a fixed batch, and of feed and step together, with the bottleneck.

All that the benchmark uses of the training loop's parts is called from here.
"""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from pipeline.benchmark import machine
from pipeline.benchmark.diagnosis import Stages, diagnose
from pipeline.benchmark.feed import FOREVER, consume_in_function, images_of_element
from pipeline.benchmark.flops import make_matmul, training_flops
from pipeline.benchmark.results import Results, Row
from pipeline.benchmark.timing import measure_rounds, run_for, warm_up
from pipeline.train import setup
from pipeline.train.devices import Devices
from pipeline.train.prefetch import Feeds, prefetch_to_devices

DATASET, FEED, STEP, TRAIN = "dataset", "feed", "step", "train"  # ids of the rows of measure_training


def measure_steps(plans: Sequence[setup.RunPlan], devices: Devices, rounds: int = 3, seconds: float = 1.0) -> Results:
    """Measure the training step on a fixed batch with each of the settings, and report the fastest.

    The peak of the devices is what a large matrix product of the same type reaches in its best round.

    Args:
        plans: of the same data; batch size, precision, steps per call and XLA may differ.
        rounds: how often each is measured; they take turns.
        seconds: shortest length of one measurement.
    """
    # Each plan has a compiled function of its own; TensorFlow would warn of one function that is traced too often.
    tf.get_logger().setLevel(logging.ERROR)
    by_id = {_id_of(plan): plan for plan in plans}
    steps = {row_id: _make_fixed_step(plan, devices) for row_id, plan in by_id.items()}
    matmuls = {dtype: _make_matmul(dtype, devices) for dtype in map(_compute_dtype, plans)}
    work = {**{row_id: train for row_id, (train, _) in steps.items()}, **matmuls}
    rates = measure_rounds({key: _timed(seconds, function) for key, function in work.items()}, rounds)
    # Logical CPUs are parts of one processor, all of which the matrix product used.
    scale = devices.replicas.total if devices.accelerator == "GPU" else 1
    peaks = {dtype: scale * max(rates[dtype].rounds) for dtype in matmuls}
    rows = []
    for row_id, plan in by_id.items():
        flops, peak = steps[row_id][1], peaks[_compute_dtype(plan)]
        rows.append(Row(row_id, _options_of(plan), rates[row_id], flops_per_image=flops, peak_flops=peak))
    fastest = max(rows, key=lambda row: row.rates.median)
    return Results(
        "step",
        machine.describe(plans[0], devices),
        rows,
        compared=[(fastest.id, row.id) for row in rows if row is not fastest],
        diagnosis=(
            f"fastest: {fastest.text}; {fastest.flops_per_image / 1e9:.3g} GFLOP per image, "
            f"{fastest.share_of_peak:.0%} of the {fastest.peak_flops / 1e9:,.0f} GFLOP/s that a matrix product reaches"
        ),
    )


def measure_training(plan: setup.RunPlan, devices: Devices, rounds: int = 5, seconds: float = 1.0) -> Results:
    """Measure the feed alone, the step alone and training, and report accelerator utilisation and the bottleneck.

    Nothing is saved.

    Args:
        rounds: how often each is measured; they take turns.
        seconds: shortest length of one measurement.
    """
    feeds = setup.make_feeds(plan, devices)
    train, _ = _make_step(plan, devices, feeds)
    fixed = _first_element(feeds, devices)
    train(fixed)  # traced and compiled before the clock runs
    consume = consume_in_function(
        feeds.train(FOREVER), images_of_element, plan.steps.batch_size * plan.steps.steps_per_call
    )
    warm_up(seconds, consume)

    def on_a_new_feed(function: Callable[[tuple], int]) -> Callable[[], Iterator[int]]:
        # New in each round: an old one would have filled its buffers while the others were measured.
        def start() -> Iterator[int]:
            with contextlib.closing(prefetch_to_devices(feeds.train(FOREVER), devices)) as elements:
                yield from run_for(seconds, lambda: function(next(elements)))

        return start

    work = {
        DATASET: ("feed, before its batches are copied to the devices", _timed(seconds, consume)),
        FEED: ("feed, on the devices", on_a_new_feed(lambda element: int(tf.reduce_sum(element[1])))),
        STEP: ("step, on a fixed batch", _timed(seconds, lambda: train(fixed))),
        TRAIN: ("feed and step", on_a_new_feed(train)),
    }
    rates = measure_rounds({row_id: start for row_id, (_, start) in work.items()}, rounds)
    results = Results(
        "train",
        machine.describe_with_settings(plan, devices),
        [Row(row_id, text, rates[row_id]) for row_id, (text, _) in work.items()],
        compared=[(TRAIN, STEP), (FEED, STEP)],
    )
    return dataclasses.replace(results, diagnosis=_diagnose(results, plan, devices))


def _diagnose(results: Results, plan: setup.RunPlan, devices: Devices) -> str:
    dataset, feed, step = (results.row(row_id).rates.median for row_id in (DATASET, FEED, STEP))
    # From the ratio of each round: the medians of two rows may be of different rounds.
    stages = Stages(dataset, feed, step, results.ratio(TRAIN, STEP).median * step)
    return diagnose(stages, plan.plan.feed, plan.config.scale, devices.accelerator, plan.steps.steps_per_call)


def _make_step(plan: setup.RunPlan, devices: Devices, feeds: Feeds) -> tuple[Callable[[tuple], int], keras.Model]:
    """A function that trains on one element of the feed and returns its images; and the model."""
    model, optimizer = setup.make_model(plan, devices)
    steps = setup.make_compiled_steps(plan, devices, model, optimizer, feeds)
    first_steps = itertools.count(0, plan.steps.steps_per_call)

    def train(element: tuple) -> int:
        parts, count = element
        # Reading the result waits for the devices.
        return int(steps.train(parts, count, next(first_steps)).numpy()[2])

    return train, model


def _make_fixed_step(plan: setup.RunPlan, devices: Devices) -> tuple[Callable[[], int], int]:
    """Work that trains on one and the same element, compiled before; and the operations that takes per image."""
    feeds = setup.make_feeds(plan, devices)
    train, model = _make_step(plan, devices, feeds)
    fixed = _first_element(feeds, devices)
    train(fixed)
    return lambda: train(fixed), training_flops(model)


def _first_element(feeds: Feeds, devices: Devices) -> tuple:
    with contextlib.closing(prefetch_to_devices(feeds.train(FOREVER), devices)) as elements:
        return next(elements)


def _timed(seconds: float, function: Callable[[], int]) -> Callable[[], Iterator[int]]:
    return lambda: run_for(seconds, function)


def _make_matmul(compute_dtype: str, devices: Devices) -> Callable[[], int]:
    with tf.device(devices.names[0]):
        return make_matmul(compute_dtype, devices.accelerator)


def _compute_dtype(plan: setup.RunPlan) -> str:
    return keras.DTypePolicy(plan.precision).compute_dtype


def _id_of(plan: setup.RunPlan) -> str:
    xla = "_xla" if plan.config.xla else ""
    return f"{plan.precision}_b{plan.steps.batch_size}_k{plan.steps.steps_per_call}{xla}"


def _options_of(plan: setup.RunPlan) -> str:
    steps = plan.steps
    options = f"--batch-size {steps.batch_size} --precision {plan.precision} --steps-per-call {steps.steps_per_call}"
    return options + (" --xla" if plan.config.xla else "")
