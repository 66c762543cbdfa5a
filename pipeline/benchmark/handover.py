"""What it costs to bring batches to replicas: our hand-over beside TensorFlow's distributed data sets.

All get the same batches from the same feed. `experimental_distribute_dataset` takes global batches and cuts them anew
for the replicas; `distribute_datasets_from_function` is given those of a replica; both hand them over by a
MultiDeviceIterator, one element a replica and step. Ours cuts the order, so that each replica's part is gathered on
its own, and hands over calls of several steps.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from pipeline.benchmark.consume import FOREVER, handed_over
from pipeline.benchmark.machine import describe_machine, make_clusters
from pipeline.benchmark.results import OTHERS, OURS, Ratio, Results, Row, ratio_of
from pipeline.benchmark.synthetic import IMAGE_BYTES, made_up_arrays
from pipeline.benchmark.timing import settled_rounds, warm_up
from pipeline.errors import InputError, pluralize
from pipeline.feed.dataset import Replicas, make_resident_dataset
from pipeline.feed.order import Steps
from pipeline.feed.plan import default_memory_budget, size_text
from pipeline.feed.resident import SplitArrays
from pipeline.train.devices import Devices
from pipeline.train.limits import calls_alive

_WAYS = 4  # rows for each number of replicas
BATCHES = 240  # an epoch; whole ones, so that every contender counts the same images

_Contender = tuple[str, str, str, Callable[[], int]]  # name, note, group, work


def measure_handover(
    rounds: int = 5,
    seconds: float = 1.0,
    batch_size: int = 256,
    steps_per_call: int = 16,
    replicas: Sequence[int] = (1, 2, 8),
) -> Results:
    """Measure the hand-over of uint8 batches to so many replicas, as far as there are devices, to a Python loop.

    Args:
        batch_size: global.
        steps_per_call: of our longer calls; the shorter ones have one step, as TensorFlow's elements do.

    Raises:
        InputError: the batch does not divide among every number of replicas that there are devices for, or the batches
            do not fit in memory.
    """
    clusters = make_clusters(replicas)  # before anything else uses TensorFlow
    _check(batch_size, steps_per_call, [devices.replicas.total for devices in clusters])
    arrays = made_up_arrays(BATCHES * batch_size)
    contenders = [one for devices in clusters for one in _contenders(arrays, batch_size, steps_per_call, devices)]
    for *_, work in contenders:
        warm_up(seconds, work)
    rates = settled_rounds([work for *_, work in contenders], rounds, seconds)
    rows = [
        Row(name, note, found, IMAGE_BYTES, group=group)
        for (name, note, group, _), found in zip(contenders, rates, strict=True)
    ]
    machine = {**describe_machine(), "batch_size": batch_size, "devices": list(clusters[-1].devices)}
    return Results("handover", rows, machine, list(_ratios(rows)))


def _check(batch_size: int, steps_per_call: int, replicas: Sequence[int]) -> None:
    most = max(replicas)
    if batch_size < 1 or batch_size % most:
        raise InputError(f"--batch-size {batch_size}: a multiple of {most}, as so many replicas share it")
    if steps_per_call < 2:
        raise InputError(f"--steps-per-call {steps_per_call}: at least 2, as calls of 1 step are measured anyway")
    waiting = len(replicas) * calls_alive() * min(steps_per_call, BATCHES)
    held, budget = (BATCHES + waiting) * batch_size * IMAGE_BYTES, default_memory_budget()
    if held > budget:
        raise InputError(
            f"--batch-size {batch_size} --steps-per-call {steps_per_call}: the batches take {size_text(held)}, over "
            f"half of the free memory ({size_text(budget)}); use smaller ones"
        )


def _contenders(arrays: SplitArrays, batch_size: int, steps_per_call: int, devices: Devices) -> Iterator[_Contender]:
    named = pluralize(devices.replicas.total, "replica")
    for most in (1, steps_per_call):
        steps = Steps(len(arrays), batch_size).in_even_calls(most)
        dataset = make_resident_dataset(arrays, steps, 0, FOREVER, devices.replicas)
        calls = pluralize(steps.steps_per_call, "step")
        yield f"{named}, ours, {calls} a call", "a part of the order for each", OURS, handed_over(dataset, devices)
    strategy = devices.strategy

    def of_a_replica(context):
        return batches_of(arrays, context.get_per_replica_batch_size(batch_size))

    given = strategy.distribute_datasets_from_function(of_a_replica)
    yield f"{named}, from_function", "distribute_datasets_from_function", OTHERS, _taken(given, batch_size)
    cut = strategy.experimental_distribute_dataset(batches_of(arrays, batch_size))
    yield f"{named}, distribute_dataset", "experimental_distribute_dataset", OTHERS, _taken(cut, batch_size)


def batches_of(arrays: SplitArrays, batch_size: int) -> tf.data.Dataset:
    """Batches of (image uint8 [batch, IMAGE_BYTES], label int32 [batch]) by our gather, without end."""
    dataset = make_resident_dataset(arrays, Steps(len(arrays), batch_size), 0, FOREVER, Replicas())
    # Taking the first of one step shares the gathered memory.
    return dataset.map(lambda element: (element["replicas"][0]["image"][0], element["replicas"][0]["label"][0]))


def _taken(dataset, batch_size: int) -> Callable[[], int]:
    return functools.partial(_take, iter(dataset), batch_size)


def _take(iterator, batch_size: int) -> int:
    next(iterator)
    return batch_size


def _ratios(rows: Sequence[Row]) -> Iterator[Ratio]:
    """Ours of one step a call over each of TensorFlow's: all are taken step by step from Python there."""
    for first in range(0, len(rows), _WAYS):
        single, _, given, cut = rows[first : first + _WAYS]
        yield from (ratio_of(single, other) for other in (given, cut))
