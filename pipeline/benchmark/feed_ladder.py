"""Images per second of the feed, rung by rung, beside what a user would run instead and what the machine allows.

Each rung holds the work of those before it that it needs: reading, parsing, drawing the order, gathering, scaling,
handing to the replicas. Batches are consumed inside a tf.function, so that no Python is measured with them.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from pipeline.benchmark import rivals
from pipeline.benchmark.consume import FOREVER, consume_in_function, handed_over, images_of_call, images_of_pair
from pipeline.benchmark.first_batch import figures_of, measure_first_batch
from pipeline.benchmark.machine import describe_training
from pipeline.benchmark.results import LIMIT, OTHERS, OURS, Ratio, Results, Row, ratio_of
from pipeline.benchmark.timing import settled_rounds, warm_up
from pipeline.errors import pluralize
from pipeline.feed.dataset import HostScaling, make_resident_dataset, make_stream_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps, epoch_order, in_calls
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import ShardReader
from pipeline.splits import TRAIN
from pipeline.train import setup
from pipeline.train.devices import Devices

_FIRST_BATCHES = 3  # processes started for them, each of which imports TensorFlow


@dataclasses.dataclass(frozen=True)
class Stage:
    """A row to be: `work()` does some work and returns the images done; `warm_up` images come before the clock."""

    name: str
    note: str
    bytes_per_image: int
    work: Callable[[], int]
    warm_up: int = 0
    group: str = OURS


def measure_feed(
    resolved: setup.RunPlan, devices: Devices, rounds: int = 5, seconds: float = 1.0, with_rivals: bool = True
) -> Results:
    """Measure every feed of the training split that `resolved` describes.

    Args:
        rounds: how often each rung is measured; they take turns.
        seconds: how long one measurement runs at least.
        with_rivals: whether to measure the recipes of `rivals` too.
    """
    arrays = load_split(resolved.config.data, resolved.manifest, TRAIN)
    rungs = [*_own(resolved, devices, arrays), *_limits(resolved, arrays)]
    if with_rivals:
        rungs += _rivals(resolved, arrays)
    for rung in rungs:
        warm_up(seconds, rung.work, rung.warm_up)
    rates = settled_rounds([rung.work for rung in rungs], rounds, seconds)
    rows = {
        rung.name: Row(rung.name, rung.note, found, rung.bytes_per_image, group=rung.group)
        for rung, found in zip(rungs, rates, strict=True)
    }
    steps = resolved.steps
    first = measure_first_batch(
        resolved.config.data, steps.batch_size, steps.steps_per_call, min(rounds, _FIRST_BATCHES)
    )
    return Results(
        "feed",
        list(rows.values()),
        describe_training(resolved, devices),
        ratios=list(_ratios(rows)),
        figures=figures_of(first),
    )


def _ratios(rows: Mapping[str, Row]) -> Iterator[Ratio]:
    for dtype in ("float32", "uint8"):
        below = [f"textbook cached {dtype}", f"numpy {dtype}", *(["keras arrays"] if dtype == "uint8" else [])]
        for above in (name for name in rows if name.startswith(f"host {dtype}")):
            yield from (ratio_of(rows[above], rows[name]) for name in below if name in rows)
    if "textbook float32" in rows:
        yield ratio_of(rows["stream float32"], rows["textbook float32"])


def _own(resolved, devices, arrays: SplitArrays) -> Iterator[Stage]:
    config, steps, manifest = resolved.config, resolved.steps, resolved.manifest
    size, replicas = manifest.layout.image_bytes, devices.replicas
    scaling = HostScaling(Normalization(), manifest.image_shape, "float32")
    shards = [pathlib.Path(config.data) / shard.name for shard in manifest.split(TRAIN).shards]
    epochs = itertools.count()

    def read() -> int:
        for path in shards:
            path.read_bytes()
        return steps.num_examples

    def draw() -> int:
        order = epoch_order(steps.num_examples, 0, next(epochs))
        in_calls(order, steps.batch_size, steps.steps_per_call)
        return steps.num_examples

    yield Stage("read", "shards from the page cache", manifest.stride, read)
    yield Stage("parse", "shards to arrays", size, lambda: len(load_split(config.data, manifest, TRAIN)))
    yield Stage("order", "a permutation, cut into calls", 4, draw)
    for dtype, scale in (("uint8", None), ("float32", scaling)):
        yield from _resident(steps, devices, arrays, dtype, scale)
    resident = make_resident_dataset(arrays, steps, 0, FOREVER, replicas)
    yield Stage("distribute", "host uint8, handed to the replicas", size, handed_over(resident, devices))
    indices = make_resident_dataset(None, steps, 0, FOREVER, replicas)
    yield _fed("device indices", "what crosses the bus with --feed device", 4, indices, steps)
    reader = ShardReader(config.data, manifest, TRAIN)
    # Half of the split to a window, however large the budget: a window of all of it would not be streaming.
    budget = min(resolved.plan.budget, 2 * steps.num_examples * manifest.stride)
    for dtype, scale in (("uint8", None), ("float32", scaling)):
        dataset = make_stream_dataset(reader, budget, steps, 0, FOREVER, replicas, scale)
        yield _fed(f"stream {dtype}", "from disk, in windows", size * np.dtype(dtype).itemsize, dataset, steps)


def _resident(
    steps: Steps, devices: Devices, arrays: SplitArrays, dtype: str, scaling: HostScaling | None
) -> Iterator[Stage]:
    """The host feed in calls as asked for, and in shorter ones."""
    asked = "order and gather" if scaling is None else "order, gather and scale"
    size = arrays.images.shape[1]
    rows = {steps: (f"host {dtype}", asked)}
    for shorter, note in _shorter_calls(steps, devices.accelerator, size):
        rows.setdefault(shorter, (f"host {dtype}, {pluralize(shorter.steps_per_call, 'step')} a call", note))
    for cut, (name, note) in rows.items():
        dataset = make_resident_dataset(arrays, cut, 0, FOREVER, devices.replicas, scaling)
        yield _fed(name, note, size * np.dtype(dtype).itemsize, dataset, cut)


def _shorter_calls(steps: Steps, accelerator: str, image_bytes: int) -> Iterator[tuple[Steps, str]]:
    """Calls of no more steps than asked for: those that training has by default, and the shortest."""
    batch_bytes = steps.batch_size * image_bytes
    for where, kind in (("on a GPU", "GPU"), ("here", accelerator)):
        most = min(setup.default_steps_per_call(kind, batch_bytes), steps.steps_per_call)
        yield steps.in_even_calls(most), f"in calls of train.py's default {where}"
    yield dataclasses.replace(steps, steps_per_call=1), "in the shortest calls"


def _fed(name: str, note: str, bytes_per_image: int, dataset: tf.data.Dataset, steps: Steps) -> Stage:
    work = consume_in_function(dataset, images_of_call, steps.batch_size * steps.steps_per_call)
    return Stage(name, note, bytes_per_image, work)


def _limits(resolved, arrays: SplitArrays) -> Iterator[Stage]:
    size, batch = resolved.manifest.layout.image_bytes, resolved.config.batch_size
    order = epoch_order(len(arrays), 0, 0)
    target = np.empty_like(arrays.images)

    def gather(dtype: str) -> int:
        for first in range(0, len(order), batch):
            rivals.numpy_gather(arrays.images, order[first : first + batch], dtype)
        return len(order)

    def copy() -> int:
        np.copyto(target, arrays.images)
        return len(order)

    for dtype in ("uint8", "float32"):
        width = size * np.dtype(dtype).itemsize
        work = functools.partial(gather, dtype)
        yield Stage(f"numpy {dtype}", "limit: NumPy's gather, one thread", width, work, group=LIMIT)
    yield Stage("memcpy", "limit: one copy of the matrix", size, copy, group=LIMIT)


def _rivals(resolved, arrays: SplitArrays) -> Iterator[Stage]:
    config, manifest = resolved.config, resolved.manifest
    size, batch = manifest.layout.image_bytes, config.batch_size
    paths = [str(pathlib.Path(config.data) / shard.name) for shard in manifest.split(TRAIN).shards]

    def rung(name, note, width, dataset, cached=True):
        # What is cached is cached after one epoch, so the clock starts after two.
        warm_up = 2 * len(arrays) if cached else 0
        return Stage(name, note, width, consume_in_function(dataset, images_of_pair, batch), warm_up, OTHERS)

    yield rung(
        "textbook float32", "tf.data's guide", 4 * size, rivals.textbook(paths, size, batch, "float32", False), False
    )
    for dtype in ("uint8", "float32"):
        dataset = rivals.textbook(paths, size, batch, dtype, True)
        width = size * np.dtype(dtype).itemsize
        yield rung(f"textbook cached {dtype}", "tf.data's guide, cached", width, dataset)
    yield rung("keras arrays", "what fit(x, y) does", size, rivals.keras_arrays(arrays, batch))
    try:
        recipe = rivals.tfds_recipe(config.data, batch)
    except ImportError:
        return
    yield rung("tfds float32", "TFDS's recipe, cached", 4 * size, recipe)
