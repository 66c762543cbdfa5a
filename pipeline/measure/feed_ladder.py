"""Images per second of the feed, rung by rung, beside what a user would run instead and what the machine allows.

Each rung holds the work of those before it that it needs: reading, parsing, drawing the order, gathering, scaling,
handing to the replicas. Batches are consumed inside a tf.function, as training consumes them.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.feed.dataset import HostScaling, make_resident_dataset, make_stream_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import epoch_order, in_calls
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import ShardReader
from pipeline.measure import rivals
from pipeline.measure.consume import FOREVER, consume_in_function, handed_over, images_of_call, images_of_pair
from pipeline.measure.first_batch import figures_of, measure_first_batch
from pipeline.measure.machine import describe_training
from pipeline.measure.results import LIMIT, OTHERS, OURS, Results, Row, ratio_of
from pipeline.measure.timing import settled_rounds, warm_up
from pipeline.train import assemble
from pipeline.train.strategy import Cluster

_FIRST_BATCHES = 3  # processes started for them, each of which imports TensorFlow


@dataclasses.dataclass(frozen=True)
class Rung:
    """A row to be: `work()` does some work and returns the images done; `warm_up` images come before the clock."""

    name: str
    note: str
    bytes_per_image: int
    work: Callable[[], int]
    warm_up: int = 0
    group: str = OURS


def measure_feed(
    resolved: assemble.Resolved, cluster: Cluster, rounds: int = 5, seconds: float = 1.0, with_rivals: bool = True
) -> Results:
    """Measure every feed of the training split that `resolved` describes.

    Args:
        rounds: how often each rung is measured; they take turns.
        seconds: how long one measurement runs at least.
        with_rivals: whether to measure the recipes of `rivals` too.
    """
    arrays = load_split(resolved.config.data, resolved.manifest, assemble.TRAIN)
    rungs = [*_own(resolved, cluster, arrays), *_limits(resolved, arrays)]
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
        describe_training(resolved, cluster),
        ratios=[ratio_of(rows[above], rows[below]) for above, below in _COMPARED if {above, below} <= rows.keys()],
        figures=figures_of(first),
    )


_COMPARED = (
    *(
        (f"host {dtype}{calls}", f"{below} {dtype}")
        for dtype in ("float32", "uint8")
        for calls in ("", ", 1 step a call")
        for below in ("textbook cached", "numpy")
    ),
    *((f"host uint8{calls}", "keras arrays") for calls in ("", ", 1 step a call")),
    ("stream float32", "textbook float32"),
)


def _own(resolved, cluster, arrays: SplitArrays) -> Iterator[Rung]:
    config, steps, manifest = resolved.config, resolved.steps, resolved.manifest
    size, replicas = manifest.layout.image_bytes, cluster.replicas
    scaling = HostScaling(Normalization(), manifest.image_shape, "float32")
    shards = [pathlib.Path(config.data) / shard.name for shard in manifest.split(assemble.TRAIN).shards]
    epochs = itertools.count()

    def read() -> int:
        for path in shards:
            path.read_bytes()
        return steps.num_examples

    def draw() -> int:
        order = epoch_order(steps.num_examples, 0, next(epochs))
        in_calls(order, steps.batch_size, steps.steps_per_call)
        return steps.num_examples

    yield Rung("read", "shards from the page cache", manifest.stride, read)
    yield Rung("parse", "shards to arrays", size, lambda: len(load_split(config.data, manifest, assemble.TRAIN)))
    yield Rung("order", "a permutation, cut into calls", 4, draw)

    def ours(name, note, bytes_per_image, dataset, per_call=steps.steps_per_call):
        work = consume_in_function(dataset, images_of_call, steps.batch_size * per_call)
        return Rung(name, note, bytes_per_image, work)

    single = dataclasses.replace(steps, steps_per_call=1)
    for dtype, scale, note in (("uint8", None, "order and gather"), ("float32", scaling, "order, gather and scale")):
        width = size * np.dtype(dtype).itemsize
        resident = make_resident_dataset(arrays, steps, 0, FOREVER, replicas, scale)
        yield ours(f"host {dtype}", note, width, resident)
        if steps != single:
            short = make_resident_dataset(arrays, single, 0, FOREVER, replicas, scale)
            yield ours(f"host {dtype}, 1 step a call", "the same in the shortest calls", width, short, 1)
    resident = make_resident_dataset(arrays, steps, 0, FOREVER, replicas)
    yield Rung("distribute", "host uint8, handed to the replicas", size, handed_over(resident, cluster))
    indices = make_resident_dataset(None, steps, 0, FOREVER, replicas)
    yield ours("device indices", "what crosses the bus with --feed device", 4, indices)
    reader = ShardReader(config.data, manifest, assemble.TRAIN)
    # Half of the split to a window, however large the budget: a window of all of it would not be streaming.
    budget = min(resolved.plan.budget, 2 * steps.num_examples * manifest.stride)
    for dtype, scale in (("uint8", None), ("float32", scaling)):
        dataset = make_stream_dataset(reader, budget, steps, 0, FOREVER, replicas, scale)
        yield ours(f"stream {dtype}", "from disk, in windows", size * np.dtype(dtype).itemsize, dataset)


def _limits(resolved, arrays: SplitArrays) -> Iterator[Rung]:
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
        yield Rung(f"numpy {dtype}", "limit: NumPy's gather, one thread", width, work, group=LIMIT)
    yield Rung("memcpy", "limit: one copy of the matrix", size, copy, group=LIMIT)


def _rivals(resolved, arrays: SplitArrays) -> Iterator[Rung]:
    config, manifest = resolved.config, resolved.manifest
    size, batch = manifest.layout.image_bytes, config.batch_size
    paths = [str(pathlib.Path(config.data) / shard.name) for shard in manifest.split(assemble.TRAIN).shards]

    def rung(name, note, width, dataset, cached=True):
        # What is cached is cached after one epoch, so the clock starts after two.
        warm_up = 2 * len(arrays) if cached else 0
        return Rung(name, note, width, consume_in_function(dataset, images_of_pair, batch), warm_up, OTHERS)

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
