"""Images per second of the training step on a fixed batch, and of feed and step together, with the bottleneck.

Only this module of the benchmark builds and runs training steps.
"""

import contextlib
import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from pipeline.benchmark.feed import FOREVER, consume_in_function, images_of_element
from pipeline.benchmark.results import Results, Row, describe_machine
from pipeline.benchmark.timing import measure_rounds
from pipeline.train import setup
from pipeline.train.devices import Devices
from pipeline.train.prefetch import Feeds, prefetch_to_devices
from pipeline.train.run_plan import RunPlan

DATASET, FEED, STEP, TRAIN = "dataset", "feed", "step", "train"  # ids of the rows of measure_training

_BUSY = 0.95  # utilisation from which training counts as compute-bound: rounds differ by about as much
_MUCH_FASTER = 1.25  # the copy to the devices is the bottleneck if the data set alone is faster by this factor

_FORWARD_AND_BACKWARD = 3
_COUNTED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_MATMULS = 8  # per call
# Large enough that the product takes much longer than starting it. A CPU reaches its peak with smaller ones.
_MATRIX_ROWS = {"CPU": 1024, "GPU": 8192}


def measure_steps(plans: Sequence[RunPlan], devices: Devices, rounds: int, seconds: float) -> Results:
    """Measure the training step on a fixed batch with each of the settings, and report the fastest.

    The peak of the devices is what a large matrix product of the same type reaches in its best round.

    Args:
        plans: of the same data; batch size, precision, steps per call and XLA may differ.
        rounds, seconds: as of `measure_rounds`.
    """
    # Each plan has a compiled function of its own; TensorFlow would warn of one function that is traced too often.
    tf.get_logger().setLevel(logging.ERROR)
    by_id = {_id_of(plan): plan for plan in plans}
    steps = {row_id: TrainingStep(plan, devices, setup.make_feeds(plan, devices)) for row_id, plan in by_id.items()}
    matmuls = {plan.compute_dtype: make_matmul(plan.compute_dtype, devices) for plan in plans}
    rates = measure_rounds({**{row_id: step.repeat for row_id, step in steps.items()}, **matmuls}, rounds, seconds)
    # Logical CPUs are parts of one processor, all of which the matrix product used.
    scale = devices.replicas.total if devices.accelerator == "GPU" else 1
    rows = [
        Row(
            row_id,
            _options_of(plan),
            rates[row_id],
            flops_per_image=training_flops(steps[row_id].model),
            peak_flops=scale * max(rates[plan.compute_dtype].rounds),
        )
        for row_id, plan in by_id.items()
    ]
    fastest = max(rows, key=lambda row: row.rates.median)
    diagnosis = (
        f"fastest: {fastest.text}; {fastest.flops_per_image / 1e9:.3g} GFLOP per image, "
        f"{fastest.share_of_peak:.0%} of the {fastest.peak_flops / 1e9:,.0f} GFLOP/s that a matrix product reaches"
    )
    compared = [(fastest.id, row.id) for row in rows if row is not fastest]
    return Results("step", describe_machine(plans, devices), rows, compared, diagnosis)


def measure_training(plan: RunPlan, devices: Devices, rounds: int, seconds: float) -> Results:
    """Measure the feed alone, the step alone and training, and report accelerator utilisation and the bottleneck.

    Nothing is saved. `rounds` and `seconds` are those of `measure_rounds`.
    """
    feeds = setup.make_feeds(plan, devices)
    step = TrainingStep(plan, devices, feeds)
    # An iterator of its own: rows that shared one would take each other's prefetched elements.
    dataset = consume_in_function(
        feeds.train(FOREVER), images_of_element, plan.steps.batch_size * plan.steps.steps_per_call
    )
    with open_feed(feeds, devices) as delivered, open_feed(feeds, devices) as trained:
        work: dict[str, tuple[str, Callable[[], int]]] = {
            DATASET: ("feed, before its batches are copied to the devices", dataset),
            FEED: ("feed, on the devices", lambda: int(tf.reduce_sum(next(delivered)[1]))),
            STEP: ("step, on a fixed batch", step.repeat),
            TRAIN: ("feed and step", lambda: step.train(next(trained))),
        }
        rates = measure_rounds({row_id: function for row_id, (_, function) in work.items()}, rounds, seconds)
    rows = [Row(row_id, text, rates[row_id]) for row_id, (text, _) in work.items()]
    results = Results("train", describe_machine([plan], devices), rows, [(TRAIN, STEP), (FEED, STEP)])
    return dataclasses.replace(results, diagnosis=_diagnose(results, plan, devices))


class TrainingStep:
    """The compiled training step of a plan, and one element of `feeds`."""

    def __init__(self, plan: RunPlan, devices: Devices, feeds: Feeds) -> None:
        self.model, optimizer = setup.make_model(plan, devices)
        self._compiled = setup.make_compiled_steps(plan, devices, self.model, optimizer, feeds)
        self._first_steps = itertools.count(0, plan.steps.steps_per_call)
        with open_feed(feeds, devices) as elements:
            self._fixed = next(elements)

    def train(self, element: tuple[Any, tf.Tensor]) -> int:
        """Train on an element of the feed, wait for the devices, and return its images."""
        parts, count = element
        return int(self._compiled.train(parts, count, next(self._first_steps)).examples)

    def repeat(self) -> int:
        """Train on the same element again."""
        return self.train(self._fixed)


def open_feed(feeds: Feeds, devices: Devices) -> contextlib.closing:
    """A context manager whose value iterates over elements on the devices, without end."""
    elements: Any = prefetch_to_devices(feeds.train(FOREVER), devices)
    return contextlib.closing(elements)


def _diagnose(results: Results, plan: RunPlan, devices: Devices) -> str:
    dataset, feed, step = (results.row(row_id).rates.median for row_id in (DATASET, FEED, STEP))
    return diagnose(
        dataset,
        feed,
        step,
        # From the ratio of each round: the medians of two rows may be of different rounds.
        utilisation=results.ratio(TRAIN, STEP).median,
        feed_kind=plan.feed_plan.feed,
        scale=plan.config.scale,
        accelerator=devices.accelerator,
        steps_per_call=plan.steps.steps_per_call,
    )


def diagnose(
    dataset: float,
    feed: float,
    step: float,
    utilisation: float,
    feed_kind: str,
    scale: str,
    accelerator: str,
    steps_per_call: int,
) -> str:
    """One sentence on the bottleneck of training, with the option of train.py that may remove it.

    Args:
        dataset, feed, step: images per second of the data set alone, copied to the devices, of the step alone.
        utilisation: share of the time in which the accelerators compute (accelerator utilisation of MLPerf Storage).
        feed_kind: host, device or stream.
        scale: device or host; where bytes are scaled to floats.
        accelerator: GPU or CPU.
    """
    share, longer_calls = f"accelerator utilisation {utilisation:.1%}", f"--steps-per-call {4 * steps_per_call}"
    if utilisation >= _BUSY:
        return (
            f"compute-bound: {share}; the feed delivers {feed / step:,.1f} times what the step takes; to train faster, "
            "compare --precision, --steps-per-call and --xla with tools/benchmark.py step"
        )
    if feed > step:
        cores = ", or the feed on the step's own cores" if accelerator == "CPU" else ""
        return (
            f"host-bound: {share}, although the feed is faster than the step; "
            f"bottleneck: the host's loop{cores}; try {longer_calls}"
        )
    if scale == "host":
        bottleneck, option = "scaling on the host, or copying floats to the devices", "--scale device"
    elif dataset > _MUCH_FASTER * feed:
        bottleneck = "copying batches to the devices"
        option = longer_calls if feed_kind == "device" else "--feed device"
    elif feed_kind == "stream":
        bottleneck, option = "reading from disk", "--feed host with a larger --memory-budget"
    elif feed_kind == "device":
        bottleneck, option = "drawing the order", longer_calls
    else:
        bottleneck = "gathering batches on the host"
        option = "--feed device" if accelerator == "GPU" else longer_calls
    return f"input-bound: {share}, and the feed is slower than the step; bottleneck: {bottleneck}; try {option}"


def training_flops(model: keras.Model) -> int:
    """Floating-point operations of the forward and backward pass for one example of a model with channels last.

    The convention is that of model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B): multiplications and
    additions of matrix products and convolutions count, each as one operation; the backward pass counts as two forward
    passes (one product for the gradient of the inputs and one for that of the weights; the first layer needs only the
    second); activations, pooling, dropout and the optimizer do not count.

    Raises:
        ValueError: a layer has a kernel and is neither dense nor a convolution, so its operations are unknown.
    """
    forward = 0
    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        if not isinstance(layer, _COUNTED):
            raise ValueError(f"{layer.name}: cannot count the operations of a {type(layer).__name__} layer")
        # Each place of the output takes one product with the kernel of its group, which is the shape of `kernel`.
        forward += 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    return _FORWARD_AND_BACKWARD * forward


def make_matmul(compute_dtype: str, devices: Devices) -> Callable[[], int]:
    """A function that multiplies square matrices on the first device and returns the number of operations."""
    rows = _MATRIX_ROWS[devices.accelerator]
    with tf.device(devices.names[0]):
        uniform = tf.random.stateless_uniform((rows, rows), (0, 0), -1.0, 1.0)
        matrix = tf.cast(uniform / rows**0.5, compute_dtype)

        @tf.function
        def multiply() -> tf.Tensor:
            product = matrix
            for _ in range(_MATMULS):
                product = tf.linalg.matmul(product, matrix)
            return tf.cast(product[0, 0], tf.float32)

        traced = multiply.get_concrete_function()

    def work() -> int:
        float(traced())  # waits for the device
        return _MATMULS * 2 * rows**3

    return work


def _id_of(plan: RunPlan) -> str:
    xla = "_xla" if plan.config.xla else ""
    network = f"{plan.config.model}_{plan.augmentation.text()}"
    return f"{network}_{plan.precision}_b{plan.steps.batch_size}_k{plan.steps.steps_per_call}{xla}"


def _options_of(plan: RunPlan) -> str:
    steps = plan.steps
    options = f"--batch-size {steps.batch_size} --precision {plan.precision} --steps-per-call {steps.steps_per_call}"
    network = f"--model {plan.config.model} --augment {plan.augmentation.text()}"
    return f"{network} {options}{' --xla' * plan.config.xla}"
