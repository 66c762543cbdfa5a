"""What an image costs as the data grow, and what is delivered in all as replicas grow; on made-up bytes."""

from collections.abc import Sequence

import tensorflow as tf

from pipeline.benchmark.consume import FOREVER, consume_in_function, handed_over, images_of_call
from pipeline.benchmark.machine import describe_machine, make_clusters
from pipeline.benchmark.results import Results, Row, ratio_of
from pipeline.benchmark.synthetic import IMAGE_BYTES, made_up_arrays
from pipeline.benchmark.timing import settled_rounds, warm_up
from pipeline.errors import pluralize
from pipeline.feed.dataset import Replicas, make_resident_dataset
from pipeline.feed.order import Steps
from pipeline.feed.plan import default_memory_budget
from pipeline.feed.resident import SplitArrays


def measure_scale(
    sizes: Sequence[int],
    rounds: int = 3,
    seconds: float = 1.0,
    batch_size: int = 2048,
    steps_per_call: int = 16,
    replicas: Sequence[int] = (1, 2, 4, 8),
) -> Results:
    """Measure the resident feed, uint8: for each number of rows, and handed to so many replicas.

    Args:
        sizes: numbers of rows, ascending. One that would take more than half of the free memory is left out, and the
            verdict says so.
        steps_per_call: at most; each row says how many they are, as epochs are cut into even calls.
        replicas: as far as there are devices; logical ones where there is no GPU. They get the rows of the first size.
    """
    clusters = make_clusters(replicas)  # before anything else uses TensorFlow
    budget = default_memory_budget()
    fitting = [rows for rows in sizes if rows * IMAGE_BYTES <= budget] or list(sizes[:1])
    calls = batch_size, steps_per_call
    work, names = [], []
    for rows in fitting:
        dataset, steps = _feed(made_up_arrays(rows), *calls, Replicas())
        work.append(consume_in_function(dataset, images_of_call, steps.batch_size * steps.steps_per_call))
        names.append((f"{rows:,} rows", f"one replica, inside a tf.function, {_calls_text(steps)}"))
    small = made_up_arrays(fitting[0])
    for devices in clusters:
        dataset, steps = _feed(small, *calls, devices.replicas)
        work.append(handed_over(dataset, devices))
        devices = f"{fitting[0]:,} rows, handed to {', '.join(devices.names)}, {_calls_text(steps)}"
        names.append((pluralize(devices.replicas.total, "replica"), devices))
    for one in work:
        warm_up(seconds, one)
    rates = settled_rounds(work, rounds, seconds)
    rows = [Row(*name, found, IMAGE_BYTES) for name, found in zip(names, rates, strict=True)]
    machine = {**describe_machine(), "batch_size": batch_size}  # the steps a call are each row's own
    ratios = [ratio_of(rows[0], rows[len(fitting) - 1])] if len(fitting) > 1 else []
    ratios.append(ratio_of(rows[-1], rows[len(fitting)]))
    return Results("scale", rows, machine, ratios, verdict=_left_out(sizes[len(fitting) :]))


def _left_out(sizes: Sequence[int]) -> str:
    if not sizes:
        return ""
    return f"left out for lack of memory: {sizes[0]:,} rows{' and more' * (len(sizes) > 1)}"


def _calls_text(steps: Steps) -> str:
    return f"{pluralize(steps.steps_per_call, 'step')} a call"


def _feed(
    arrays: SplitArrays, batch_size: int, steps_per_call: int, replicas: Replicas
) -> tuple[tf.data.Dataset, Steps]:
    """The feed without end, and how it is cut."""
    steps = Steps(len(arrays), batch_size).in_even_calls(steps_per_call)
    dataset = make_resident_dataset(arrays, steps, 0, FOREVER, replicas)
    return dataset, steps
