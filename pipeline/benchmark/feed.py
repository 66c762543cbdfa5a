"""Images per second of every stage of the feed, next to baselines and to limits of the machine.

A stage includes the earlier stages that it needs: reading, drawing the order, gathering, scaling, copying to devices.
Batches are consumed inside a tf.function, so that no Python is timed with them.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.benchmark import baselines, machine
from pipeline.benchmark.results import BASELINE, LIMIT, OURS, Results, Row
from pipeline.benchmark.timing import measure_settled, warm_up
from pipeline.errors import pluralize
from pipeline.feed.dataset import HostScaling, Position, make_resident_dataset, make_stream_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps, epoch_order, in_calls
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import SplitReader
from pipeline.splits import TRAIN
from pipeline.train.devices import Devices
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.setup import RunPlan, default_steps_per_call

FOREVER = Position(0, 0, sys.maxsize)  # where a feed without end starts

# Between two marks: so many images that reading the clock costs nothing, so few that the slowest recipe gets there.
_IMAGES_PER_MARK, _MAX_ELEMENTS_PER_MARK = 1 << 14, 64
_COMPARED_WITH = {  # per dtype of the resident feed
    "uint8": ("textbook_cached_uint8", "keras_arrays_uint8", "numpy_uint8"),
    "float32": ("textbook_cached_float32", "tfds_cached_float32", "numpy_float32"),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A row to be measured: `work()` does some work and returns the images done; `warm_up` images come first."""

    id: str
    text: str
    bytes_per_image: int
    work: Callable[[], int]
    group: str = OURS
    warm_up: int = 0


def measure_feed(
    plan: RunPlan, devices: Devices, rounds: int = 5, seconds: float = 1.0, with_baselines: bool = True
) -> Results:
    """Measure every stage of every feed of the training split.

    Args:
        rounds: how often each stage is measured; they take turns.
        seconds: shortest length of one measurement.
        with_baselines: whether to measure the recipes of `baselines` too.
    """
    arrays = load_split(plan.config.data, plan.manifest, TRAIN)
    resident = {dtype: list(_resident(plan, devices, arrays, dtype)) for dtype in ("uint8", "float32")}
    stages = [*_preparing(plan), *itertools.chain(*resident.values()), *_other_feeds(plan, devices, arrays)]
    stages += _limits(plan, arrays)
    if with_baselines:
        stages += _baselines(plan, arrays)
    for stage in stages:
        warm_up(seconds, stage.work, stage.warm_up)
    rates = measure_settled({stage.id: stage.work for stage in stages}, rounds, seconds)
    compared = [
        (stage.id, other) for dtype, others in _COMPARED_WITH.items() for stage in resident[dtype] for other in others
    ]
    compared.append(("stream_float32", "textbook_float32"))
    return Results(
        "feed",
        machine.describe_with_settings(plan, devices),
        [
            Row(stage.id, stage.text, rates[stage.id], stage.group, bytes_per_image=stage.bytes_per_image)
            for stage in stages
        ],
        compared=[(above, below) for above, below in compared if below in rates],
    )


def consume_in_function(
    dataset: tf.data.Dataset, images_of: Callable[..., tf.Tensor], images_per_element: int
) -> Callable[[], int]:
    """Work that takes elements inside a tf.function, without Python between them, and returns their images."""
    iterator = iter(dataset)
    numbers: Any = tf.range(min(max(1, _IMAGES_PER_MARK // images_per_element), _MAX_ELEMENTS_PER_MARK))

    @tf.function
    def consume() -> tf.Tensor:
        images = tf.constant(0)
        for _ in numbers:
            images += images_of(next(iterator))
        return images

    # A concrete function, because TensorFlow warns when one Python function is traced often.
    traced = consume.get_concrete_function()
    return lambda: int(traced())


def images_of_element(element: dict) -> tf.Tensor:
    """The examples in an element of our feed, int32."""
    return tf.cast(tf.reduce_sum(element["count"]), tf.int32)


def _preparing(plan: RunPlan) -> Iterator[Stage]:
    """What comes before batches: reading the shards, and drawing an order."""
    config, steps, manifest = plan.config, plan.steps, plan.manifest
    shards = _shards(plan)
    epochs = itertools.count()

    def read() -> int:
        for path in shards:
            path.read_bytes()
        return steps.num_examples

    def draw() -> int:
        order = epoch_order(steps.num_examples, 0, next(epochs))
        in_calls(order, steps.batch_size, steps.steps_per_call)
        return steps.num_examples

    size = manifest.layout.image_bytes
    yield Stage("read", "shards from the page cache", manifest.stride, read)
    yield Stage("load", "shards to arrays, checked", size, lambda: len(load_split(config.data, manifest, TRAIN)))
    yield Stage("order", "a permutation, cut into calls", 4, draw)


def _resident(plan: RunPlan, devices: Devices, arrays: SplitArrays, dtype: str) -> Iterator[Stage]:
    """The host feed: in calls as requested, in calls as train.py makes them here, and in calls of one step."""
    steps, image_bytes = plan.steps, arrays.images.shape[1]
    default = default_steps_per_call(devices.accelerator, steps.batch_size * image_bytes)
    lengths = (steps.steps_per_call, min(default, steps.steps_per_call), 1)
    work = "order and gather" if dtype == "uint8" else "order, gather and scale"
    for cut in dict.fromkeys(steps.in_even_calls(length) for length in lengths):
        text = f"{work}, {pluralize(cut.steps_per_call, 'step')} per call"
        dataset = make_resident_dataset(arrays, cut, 0, FOREVER, devices.replicas, _scaling(plan, dtype))
        width = image_bytes * np.dtype(dtype).itemsize
        yield _feed_stage(f"resident_{dtype}_k{cut.steps_per_call}", text, width, dataset, cut)


def _other_feeds(plan: RunPlan, devices: Devices, arrays: SplitArrays) -> Iterator[Stage]:
    steps, manifest, replicas = plan.steps, plan.manifest, devices.replicas
    size = manifest.layout.image_bytes
    elements = prefetch_to_devices(make_resident_dataset(arrays, steps, 0, FOREVER, replicas), devices)
    yield Stage(
        "resident_uint8_on_devices",
        "on the replicas' devices, from Python",
        size,
        lambda: int(tf.reduce_sum(next(elements)[1])),
    )
    indices = make_resident_dataset(None, steps, 0, FOREVER, replicas)
    yield _feed_stage("indices", "what --feed device copies", 4, indices, steps)
    reader = SplitReader(plan.config.data, manifest, TRAIN)
    # Half of the split per window, however large the budget is: a window of the whole split would not be streaming.
    budget = min(plan.plan.budget, 2 * steps.num_examples * manifest.stride)
    for dtype in ("uint8", "float32"):
        dataset = make_stream_dataset(reader, budget, steps, 0, FOREVER, replicas, _scaling(plan, dtype))
        width = size * np.dtype(dtype).itemsize
        yield _feed_stage(f"stream_{dtype}", "from disk, shuffled in windows", width, dataset, steps)


def _limits(plan: RunPlan, arrays: SplitArrays) -> Iterator[Stage]:
    size, batch = plan.manifest.layout.image_bytes, plan.steps.batch_size
    order = epoch_order(len(arrays), 0, 0)
    target = np.empty_like(arrays.images)

    def gather(dtype: str) -> int:
        for first in range(0, len(order), batch):
            baselines.numpy_gather(arrays.images, order[first : first + batch], dtype)
        return len(order)

    def copy() -> int:
        np.copyto(target, arrays.images)
        return len(order)

    for dtype in ("uint8", "float32"):
        work = functools.partial(gather, dtype)
        width = size * np.dtype(dtype).itemsize
        yield Stage(f"numpy_{dtype}", "limit: gather by NumPy, one thread", width, work, LIMIT)
    yield Stage("memcpy", "limit: one copy of the matrix", size, copy, LIMIT)


def _baselines(plan: RunPlan, arrays: SplitArrays) -> Iterator[Stage]:
    size, batch = plan.manifest.layout.image_bytes, plan.steps.batch_size
    paths = [str(path) for path in _shards(plan)]

    def stage(row_id: str, text: str, width: int, dataset: tf.data.Dataset, cached: bool = True) -> Stage:
        # After one epoch the cache is complete, so the clock starts after two.
        images = 2 * len(arrays) if cached else 0
        work = consume_in_function(dataset, lambda pair: tf.shape(pair[0])[0], batch)
        return Stage(row_id, text, width, work, BASELINE, images)

    uncached = baselines.textbook(paths, size, batch, "float32", cached=False)
    yield stage("textbook_float32", "tf.data's guide, without cache", 4 * size, uncached, cached=False)
    for dtype in ("uint8", "float32"):
        dataset = baselines.textbook(paths, size, batch, dtype, cached=True)
        yield stage(f"textbook_cached_{dtype}", "tf.data's guide", size * np.dtype(dtype).itemsize, dataset)
    yield stage("keras_arrays_uint8", "what fit(x, y) does", size, baselines.keras_arrays(arrays, batch))
    try:
        recipe = baselines.tfds_recipe(plan.config.data, batch)
    except ImportError:
        return
    yield stage("tfds_cached_float32", "the recipe of TensorFlow Datasets", 4 * size, recipe)


def _feed_stage(row_id: str, text: str, bytes_per_image: int, dataset: tf.data.Dataset, steps: Steps) -> Stage:
    work = consume_in_function(dataset, images_of_element, steps.batch_size * steps.steps_per_call)
    return Stage(row_id, text, bytes_per_image, work)


def _scaling(plan: RunPlan, dtype: str) -> HostScaling | None:
    return None if dtype == "uint8" else HostScaling(Normalization(), plan.manifest.image_shape, dtype)


def _shards(plan: RunPlan) -> list[pathlib.Path]:
    return [pathlib.Path(plan.config.data) / shard.name for shard in plan.manifest.split(TRAIN).shards]
