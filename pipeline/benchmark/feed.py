"""Images per second of every stage of the feed, next to baselines and to limits of the machine.

A stage includes the earlier stages that it needs: reading, drawing the order, gathering, scaling, copying to devices.
Batches are consumed inside a tf.function, so that no Python is timed with them.
"""

import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.benchmark import baselines
from pipeline.benchmark.results import Results, Row, describe_machine
from pipeline.benchmark.timing import measure_rounds
from pipeline.errors import pluralize
from pipeline.feed.dataset import HostScaling, Position, make_resident_dataset, make_stream_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps, epoch_order, in_calls
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import SplitReader
from pipeline.splits import TRAIN
from pipeline.train.devices import Devices
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.run_plan import RunPlan

FOREVER = Position(0, 0, sys.maxsize)  # where a feed without end starts

# Per reading of the clock: so many images that it costs nothing, so few that the slowest recipe gets there.
_IMAGES_PER_CALL, _MAX_ELEMENTS_PER_CALL = 1 << 14, 64
_WIDTHS = {"uint8": 1, "float32": 4}  # bytes per pixel
_COMPARED_WITH = {  # per dtype of the resident feed
    "uint8": ("textbook_cached_uint8", "keras_arrays_uint8", "numpy_uint8"),
    "float32": ("textbook_cached_float32", "tfds_cached_float32", "numpy_float32"),
}


class Stage(NamedTuple):
    """A row to be measured: `work()` does some work and returns the images done.

    The ratios of its rate to those of the stages `compared_with`, if they are measured, are reported.
    """

    id: str
    text: str
    bytes_per_image: int
    work: Callable[[], int]
    compared_with: Sequence[str] = ()


def measure_feed(plan: RunPlan, devices: Devices, rounds: int, seconds: float) -> Results:
    """Measure every stage of every feed of the training split, the recipes of `baselines` and limits of the machine.

    `rounds` and `seconds` are those of `measure_rounds`.
    """
    arrays = load_split(plan.config.data, plan.manifest, TRAIN)
    stages = [
        *_preparing(plan),
        *_resident(plan, devices, arrays),
        *_streamed(plan, devices),
        *_limits(plan, arrays),
        *_baselines(plan, arrays),
    ]
    rates = measure_rounds({stage.id: stage.work for stage in stages}, rounds, seconds)
    return Results(
        "feed",
        describe_machine([plan], devices),
        [Row(stage.id, stage.text, rates[stage.id], stage.bytes_per_image) for stage in stages],
        [(stage.id, other) for stage in stages for other in stage.compared_with if other in rates],
    )


def consume_in_function(
    dataset: tf.data.Dataset, images_of: Callable[..., tf.Tensor], images_per_element: int
) -> Callable[[], int]:
    """Work that takes elements inside a tf.function, without Python between them, and returns their images."""
    iterator = iter(dataset)
    numbers: Any = tf.range(min(max(1, _IMAGES_PER_CALL // images_per_element), _MAX_ELEMENTS_PER_CALL))

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
    shards, epochs = _shards(plan), itertools.count()

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


def _resident(plan: RunPlan, devices: Devices, arrays: SplitArrays) -> Iterator[Stage]:
    """The host feed, in calls as requested and in calls of one step; on the devices; and what is copied without it."""
    steps, size, replicas = plan.steps, plan.manifest.layout.image_bytes, devices.replicas
    for dtype, width in _WIDTHS.items():
        work = "order and gather" if dtype == "uint8" else "order, gather and scale"
        for cut in dict.fromkeys((steps, steps.in_even_calls(1))):
            text = f"{work}, {pluralize(cut.steps_per_call, 'step')} per call"
            dataset = make_resident_dataset(arrays, cut, 0, FOREVER, replicas, _scaling(plan, dtype))
            stage_id = f"resident_{dtype}_k{cut.steps_per_call}"
            yield Stage(stage_id, text, size * width, _consume(dataset, cut), _COMPARED_WITH[dtype])
    elements = prefetch_to_devices(make_resident_dataset(arrays, steps, 0, FOREVER, replicas), devices)
    on_devices = "on the replicas' devices, from Python"
    yield Stage("resident_uint8_on_devices", on_devices, size, lambda: int(tf.reduce_sum(next(elements)[1])))
    indices = make_resident_dataset(None, steps, 0, FOREVER, replicas)
    yield Stage("indices", "what --feed device copies", 4, _consume(indices, steps))


def _streamed(plan: RunPlan, devices: Devices) -> Iterator[Stage]:
    steps, manifest = plan.steps, plan.manifest
    reader = SplitReader(plan.config.data, manifest, TRAIN)
    # Half of the split per window, however large the budget is: a window of the whole split would not be streaming.
    budget = min(plan.feed_plan.budget, 2 * steps.num_examples * manifest.stride)
    for dtype, width in _WIDTHS.items():
        dataset = make_stream_dataset(reader, budget, steps, 0, FOREVER, devices.replicas, _scaling(plan, dtype))
        work = _consume(dataset, steps)
        compared_with = ("textbook_float32",) if dtype == "float32" else ()
        size = width * manifest.layout.image_bytes
        yield Stage(f"stream_{dtype}", "from disk, shuffled in windows", size, work, compared_with)


def _limits(plan: RunPlan, arrays: SplitArrays) -> Iterator[Stage]:
    size, batch = plan.manifest.layout.image_bytes, plan.steps.batch_size
    order = epoch_order(len(arrays), 0, 0)
    target = np.empty_like(arrays.images)  # once: new memory would add page faults to the copy

    def gather(dtype: str) -> int:
        for first in range(0, len(order), batch):
            baselines.numpy_gather(arrays.images, order[first : first + batch], dtype)
        return len(order)

    def copy() -> int:
        np.copyto(target, arrays.images)
        return len(order)

    for dtype, width in _WIDTHS.items():
        text = "limit: gather by NumPy, one thread"
        yield Stage(f"numpy_{dtype}", text, size * width, functools.partial(gather, dtype))
    yield Stage("memcpy", "limit: one copy of the matrix", size, copy)


def _baselines(plan: RunPlan, arrays: SplitArrays) -> Iterator[Stage]:
    size, batch = plan.manifest.layout.image_bytes, plan.steps.batch_size
    paths = [str(path) for path in _shards(plan)]

    def stage(row_id: str, text: str, dtype: str, dataset: tf.data.Dataset, cached: bool = True) -> Stage:
        work = consume_in_function(dataset, lambda pair: tf.shape(pair[0])[0], batch)
        images = 0
        while cached and images < 2 * len(arrays):  # after one epoch the cache is complete
            images += work()
        return Stage(row_id, f"baseline: {text}", size * _WIDTHS[dtype], work)

    uncached = baselines.textbook(paths, size, batch, "float32", cached=False)
    yield stage("textbook_float32", "tf.data's guide, without cache", "float32", uncached, cached=False)
    for dtype in _WIDTHS:
        dataset = baselines.textbook(paths, size, batch, dtype, cached=True)
        yield stage(f"textbook_cached_{dtype}", "tf.data's guide", dtype, dataset)
    yield stage("keras_arrays_uint8", "what fit(x, y) does", "uint8", baselines.keras_arrays(arrays, batch))
    try:
        recipe = baselines.tfds_recipe(plan.config.data, batch)
    except ImportError:
        return
    yield stage("tfds_cached_float32", "the recipe of TensorFlow Datasets", "float32", recipe)


def _consume(dataset: tf.data.Dataset, steps: Steps) -> Callable[[], int]:
    return consume_in_function(dataset, images_of_element, steps.batch_size * steps.steps_per_call)


def _scaling(plan: RunPlan, dtype: str) -> HostScaling | None:
    return None if dtype == "uint8" else HostScaling(Normalization(), plan.manifest.image_shape, dtype)


def _shards(plan: RunPlan) -> list[pathlib.Path]:
    return [pathlib.Path(plan.config.data) / shard.name for shard in plan.manifest.split(TRAIN).shards]
