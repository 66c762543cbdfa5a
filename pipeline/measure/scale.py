"""What an image costs as the data grow, and what is delivered in all as replicas grow; on made-up bytes."""

import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.feed.dataset import Position, Replicas, make_resident_dataset
from pipeline.feed.order import Steps
from pipeline.feed.plan import default_memory_budget
from pipeline.feed.resident import SplitArrays, aligned_matrix
from pipeline.measure.machine import describe_machine
from pipeline.measure.results import Results, Row, ratio_of
from pipeline.measure.timing import for_seconds, warm_up
from pipeline.train.meter import measure_rounds

IMAGE_BYTES = 28 * 28
SMALLEST_ROWS = 60_000


def measure_scale(
    max_rows: int,
    rounds: int = 3,
    seconds: float = 1.0,
    batch_size: int = 2048,
    steps_per_call: int = 16,
    replicas: Sequence[int] = (1, 2, 4, 8),
) -> Results:
    """Measure the resident feed, uint8, for 60 thousand rows and ten times as many until `max_rows`.

    A size that would take more than half of the free memory is left out, and the verdict says so.
    """
    budget = default_memory_budget()
    wanted = [SMALLEST_ROWS]
    while wanted[-1] * 10 <= max_rows:
        wanted.append(wanted[-1] * 10)
    sizes = [rows for rows in wanted if rows * IMAGE_BYTES <= budget] or wanted[:1]
    work = [_work(_arrays(rows), batch_size, steps_per_call, Replicas()) for rows in sizes]
    small = _arrays(sizes[0])
    work += [_work(small, batch_size, steps_per_call, Replicas(total=n, local=n)) for n in replicas]
    names = [(f"{rows:,} rows", "one replica") for rows in sizes]
    names += [(f"{n} replica{'s' * (n > 1)}", f"{sizes[0]:,} rows, images/s in all") for n in replicas]
    for one in work:
        warm_up(seconds, one)
    rates = measure_rounds([lambda one=one: for_seconds(seconds, one) for one in work], rounds)
    rows = [Row(*name, found, IMAGE_BYTES) for name, found in zip(names, rates, strict=True)]
    machine = {**describe_machine(), "batch_size": batch_size, "steps_per_call": steps_per_call}
    ratios = [ratio_of(rows[0], rows[len(sizes) - 1])] if len(sizes) > 1 else []
    ratios.append(ratio_of(rows[-1], rows[len(sizes)]))
    left_out = [f"{count:,}" for count in wanted if count not in sizes]
    verdict = f"left out for lack of memory: {', '.join(left_out)} rows" if left_out else ""
    return Results("scale", rows, machine, ratios, verdict=verdict)


def _arrays(rows: int) -> SplitArrays:
    images = aligned_matrix((rows, IMAGE_BYTES))
    images[:] = 1  # written, so that every page is there
    return SplitArrays(images, np.zeros(rows, np.int32), np.arange(rows))


def _work(arrays: SplitArrays, batch_size: int, steps_per_call: int, replicas: Replicas):
    steps = Steps(len(arrays), batch_size, min(steps_per_call, -(-len(arrays) // batch_size)))
    dataset = make_resident_dataset(arrays, steps, 0, Position(0, 0, sys.maxsize), replicas)
    iterator = iter(dataset)

    @tf.function
    def consume():
        return tf.reduce_sum(next(iterator)["count"])

    # A concrete function, as many traces of one Python function make TensorFlow warn of tracing one too often.
    traced = consume.get_concrete_function()
    return lambda: int(traced())
