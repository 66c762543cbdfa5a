"""The training step on a fixed batch, without a feed: images/s, operations/s, and the share of the device's peak."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from pipeline.benchmark.flops import Peak, data_sheet_peak, make_matmul, training_flops
from pipeline.benchmark.machine import describe_training
from pipeline.benchmark.results import LIMIT, Results, Row, rate_text, ratio_of
from pipeline.benchmark.timing import for_seconds
from pipeline.errors import pluralize
from pipeline.feed.dataset import Position
from pipeline.train import setup
from pipeline.train.devices import Devices
from pipeline.train.meter import Rates, measure_rounds
from pipeline.train.prefetch import prefetch_to_devices

MEASURED_PEAK = "measured matmul peak"


@dataclasses.dataclass(frozen=True)
class _Variant:
    """A step to be measured: `work()` makes one call of several steps and returns its images."""

    name: str
    resolved: setup.RunPlan
    flops_per_image: int
    work: Callable[[], int]

    @property
    def compute_dtype(self) -> str:
        return _compute_dtype(self.resolved)

    def row(self, rates: Rates, peaks: Mapping[str, Peak]) -> Row:
        """What was found of it."""
        return Row(
            self.name,
            "on a fixed batch",
            rates,
            flops_per_image=self.flops_per_image,
            peak_flops=peaks[self.compute_dtype].flops_per_second,
        )

    @property
    def flags(self) -> str:
        """What to give train.py for it."""
        config, steps = self.resolved.config, self.resolved.steps
        flags = f"--batch-size {steps.batch_size} --precision {self.resolved.precision}"
        return f"{flags} --steps-per-call {steps.steps_per_call}{' --xla' if config.xla else ''}"


def measure_steps(
    variants: Sequence[setup.RunPlan], devices: Devices, rounds: int = 3, seconds: float = 1.0
) -> Results:
    """Measure the step for each of the settings, which take turns, and say which is fastest.

    Where the data sheet of the devices is not known, or they are processors, the peak is what a large matrix product
    of the same type reaches in the best of the rounds.

    Args:
        variants: configurations of the same data; they may differ in batch size, precision, steps a call and XLA.
        rounds: how often each is measured.
        seconds: how long one measurement runs at least.
    """
    # Each variant is a function of its own, which is not the mistake that TensorFlow would warn of.
    tf.get_logger().setLevel(logging.ERROR)
    made = [_make_variant(*named, devices) for named in zip(_names(variants), variants, strict=True)]
    peaks = _stated_peaks(variants, devices)
    matmuls = _make_matmuls([dtype for dtype, peak in peaks.items() if peak is None], devices)
    work = [variant.work for variant in made] + list(matmuls.values())
    rates = measure_rounds([lambda one=one: for_seconds(seconds, one) for one in work], rounds)
    limits = [
        Row(f"matmul {dtype}", f"limit: {MEASURED_PEAK}", found, unit="flop", group=LIMIT)
        for dtype, found in zip(matmuls, rates[len(made) :], strict=True)
    ]
    # Logical CPUs are parts of one processor, which a matrix product has to itself.
    devices = devices.replicas.total if devices.accelerator == "GPU" else 1
    for dtype, row in zip(matmuls, limits, strict=True):
        peaks[dtype] = Peak(devices * max(row.rates.rounds), f"{MEASURED_PEAK}, {dtype}")
    rows = [variant.row(found, peaks) for variant, found in zip(made, rates, strict=False)]
    return _results(made, rows, limits, peaks, devices)


def _results(
    made: Sequence[_Variant], rows: list[Row], limits: list[Row], peaks: dict[str, Peak], devices: Devices
) -> Results:
    fastest = max(rows, key=lambda row: row.rates.median)
    variant = made[rows.index(fastest)]
    peak = peaks[variant.compute_dtype]
    share = f"{fastest.flops_per_second / peak.flops_per_second:.0%} of {peak.flops_per_second / 1e9:,.0f}"
    speed = f"{rate_text(fastest)} images/s, {fastest.flops_per_second / 1e9:,.0f} GFLOP/s, {share} ({peak.source})"
    return Results(
        "step",
        rows + limits,
        {
            **describe_training(variant.resolved, devices),
            "xla": variant.resolved.config.xla,
            "peaks": {dtype: dataclasses.asdict(peak) for dtype, peak in peaks.items()},
        },
        ratios=[ratio_of(fastest, row) for row in rows if row is not fastest],
        figures={"GFLOP an image, forward and backward": variant.flops_per_image / 1e9},
        verdict=f"fastest: {speed}; train.py {variant.flags}",
    )


def _make_variant(name: str, resolved: setup.RunPlan, devices: Devices) -> _Variant:
    model, optimizer = setup.make_model(resolved, devices)
    feeds = setup.make_feeds(resolved, devices)
    calls = setup.make_compiled_steps(resolved, devices, model, optimizer, feeds)
    elements = prefetch_to_devices(feeds.train(Position(0, 0, 1)), devices)
    fixed = next(elements)
    elements.close()
    numbers = itertools.count(0, resolved.steps.steps_per_call)

    def work() -> int:
        return int(calls.train(*fixed, next(numbers)).numpy()[2])

    work()  # traced and compiled before the clock runs
    return _Variant(name, resolved, training_flops(model), work)


def _names(variants: Sequence[setup.RunPlan]) -> list[str]:
    """What tells each of the variants from the others; all of it where there is one."""
    parts = [_parts(resolved) for resolved in variants]
    varies = [len(set(column)) > 1 or len(variants) == 1 for column in zip(*parts, strict=True)]
    return [", ".join(itertools.compress(one, varies)) for one in parts]


def _parts(resolved: setup.RunPlan) -> tuple[str, str, str, str]:
    steps, per_call = resolved.steps, resolved.steps.steps_per_call
    calls = f"{pluralize(per_call, 'step')} a call"
    return f"batch {steps.batch_size}", resolved.precision, calls, "XLA" if resolved.config.xla else "no XLA"


def _stated_peaks(variants: Sequence[setup.RunPlan], devices: Devices) -> dict[str, Peak | None]:
    on_gpus = devices.accelerator == "GPU"
    # Every worker is taken to have the same GPUs.
    names = devices.hardware() * devices.num_workers if on_gpus else ()
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return {_compute_dtype(one): data_sheet_peak(names, _compute_dtype(one), tf32) for one in variants}


def _make_matmuls(dtypes: Sequence[str], devices: Devices) -> dict[str, Callable[[], int]]:
    with tf.device(devices.names[0]):
        return {dtype: make_matmul(dtype) for dtype in dtypes}


def _compute_dtype(resolved: setup.RunPlan) -> str:
    return keras.DTypePolicy(resolved.precision).compute_dtype
