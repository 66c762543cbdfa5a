"""Shards to batches: the tf.data pipelines of training and of evaluation.

The unit is the call: `steps_per_call` batches that one host call trains on. An element holds, for every local replica,
`index` int32 [steps, rows] (the example's row in the split, -1 where a place is padding), `image` and `label` int32
[steps, rows], and for all replicas together `count` float32 [steps], the examples of each step (0 where an epoch's last
call has fewer steps). `image` is uint8
[steps, rows, H*W*C], or normalised [steps, rows, H, W, C] where the host scales; the device feed has neither image nor
label, since the step looks them up itself.
"""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from pipeline.feed.host_memory import host_tensor
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import PADDING, Steps, epoch_order, in_calls
from pipeline.feed.python_calls import python_call
from pipeline.feed.resident import SplitArrays
from pipeline.feed.stream import ShardReader

# Elements ready ahead of the training loop. Each is a whole call, so two hide a hiccup of one call's length.
_PREFETCH = 2
# Calls gathered at a time. A gather takes all cores by itself; more of them only fill the gaps between its stages, and
# as a number that does not grow with the cores they keep what a feed holds in bounds. Scaling on the host takes one
# core a call.
_GATHERS, _MAX_SCALINGS = 3, 16


def calls_ready(on_host: bool) -> int:
    """Elements that a feed holds at most, where images are scaled on the host or where they are not."""
    return _parallel_calls(on_host) + _PREFETCH


def _parallel_calls(on_host: bool) -> int:
    return max(_GATHERS, min(os.cpu_count() or 1, _MAX_SCALINGS)) if on_host else _GATHERS


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Which rows of a global batch this process feeds: replicas `first` .. `first + local - 1` of `total`."""

    total: int = 1
    first: int = 0
    local: int = 1

    def rows(self, batch_size: int) -> list[slice]:
        """The rows of each local replica."""
        if batch_size % self.total:
            raise ValueError(f"a batch of {batch_size} does not divide among {self.total} replicas")
        per_replica = batch_size // self.total
        return [slice(r * per_replica, (r + 1) * per_replica) for r in range(self.first, self.first + self.local)]


@dataclasses.dataclass(frozen=True)
class HostScaling:
    """Normalise in the pipeline rather than in the step: images leave it as `dtype` [..., H, W, C]."""

    normalization: Normalization
    image_shape: tuple[int, int, int]
    dtype: str

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(image)[:-1], self.image_shape], axis=0)
        return self.normalization.apply_on_cpu(tf.reshape(image, shape), self.dtype)


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands: `step` of `epoch` is the next one to train; a run ends before epoch `epochs`."""

    epoch: int
    step: int
    epochs: int


def make_resident_dataset(
    arrays: SplitArrays | None,
    steps: Steps,
    seed: int,
    start: Position,
    replicas: Replicas,
    scaling: HostScaling | None = None,
) -> tf.data.Dataset:
    """Training batches gathered from a split in memory; with `arrays` None, the indices alone (the device feed)."""
    lookup = _index_only if arrays is None else _make_lookup(*_tensors(arrays), scaling)

    def draw(epoch):
        order = epoch_order(steps.num_examples, seed, int(epoch))
        return in_calls(order, steps.batch_size, steps.steps_per_call)

    def order_of(epoch):
        index, count = python_call(draw, [epoch], (tf.int32, tf.float32))
        return epoch, *_with_call_shapes(index, count, steps)

    def calls_of(epoch, index, count):
        first = tf.where(epoch == start.epoch, start.step // steps.steps_per_call, 0)
        return tf.data.Dataset.from_tensor_slices((index[first:], count[first:]))

    epochs = tf.data.Dataset.range(start.epoch, start.epochs)
    # One permutation an epoch; the next epoch's is drawn while this one trains, so that no epoch starts with a wait.
    orders = epochs.map(order_of, num_parallel_calls=1, deterministic=True).prefetch(1)
    # Shuffling is done here, on indices. A gather of a whole call is the only work done on pixels.
    batches = _gathered(
        orders.flat_map(calls_of), lambda index, count: _element(index, count, replicas, steps, lookup), scaling
    )
    return _ready_ahead(batches)


def make_stream_dataset(
    reader: ShardReader,
    memory_budget: int,
    steps: Steps,
    seed: int,
    start: Position,
    replicas: Replicas,
    scaling: HostScaling | None = None,
) -> tf.data.Dataset:
    """Training batches read from disk: pages in random order, shuffled within windows that `memory_budget` allows."""
    rows_per_call = steps.batch_size * steps.steps_per_call
    pages = reader.page_order(memory_budget, rows_per_call)
    first_window, skipped = divmod(start.step // steps.steps_per_call, pages.window_rows // rows_per_call)

    def load(epoch, window):
        epoch, window = int(epoch), int(window)
        arrays, rows = reader.read(pages.window_reads(pages.pages(seed, epoch), window))
        order = pages.window_order(seed, epoch, window)
        return (
            arrays.images,
            arrays.labels,
            rows.astype(np.int32),
            *in_calls(order, steps.batch_size, steps.steps_per_call),
        )

    def windows_of(epoch):
        first = tf.where(epoch == start.epoch, tf.constant(first_window, tf.int64), tf.constant(0, tf.int64))
        return tf.data.Dataset.range(first, pages.num_windows).map(lambda window: (epoch, window))

    def read_window(epoch, window):
        types = (tf.uint8, tf.int32, tf.int32, tf.int32, tf.float32)
        images, labels, rows, places, count = python_call(load, [epoch, window], types)
        tensors = (
            tf.ensure_shape(images, (None, reader.image_bytes)),
            tf.ensure_shape(labels, (None,)),
            tf.ensure_shape(rows, (None,)),
        )
        resumed = (epoch == start.epoch) & (window == first_window)
        first = tf.where(resumed, skipped, 0)
        places, count = _with_call_shapes(places, count, steps)
        return *tensors, places[first:], count[first:]

    def calls_of(images, labels, rows, places, count):
        lookup = _make_lookup(images, labels, scaling, rows=rows)
        return _gathered(
            tf.data.Dataset.from_tensor_slices((places, count)),
            lambda index, count: _element(index, count, replicas, steps, lookup),
            scaling,
        )

    epochs = tf.data.Dataset.range(start.epoch, start.epochs)
    # The next window is read while this one is trained on: disk and compute overlap, at two windows of memory.
    windows = epochs.flat_map(windows_of).map(read_window, num_parallel_calls=1, deterministic=True).prefetch(1)
    return _ready_ahead(windows.flat_map(calls_of))


def make_evaluation_dataset(
    source: SplitArrays | ShardReader, steps: Steps, replicas: Replicas, scaling: HostScaling | None = None
) -> tf.data.Dataset:
    """One pass in the order of the CSV: every example exactly once; places after the last one are padding."""
    if isinstance(source, SplitArrays):
        resident = _tensors(source)

    def read(low, high):
        arrays = source.read_rows(int(low), int(high))
        return arrays.images, arrays.labels

    def call(step):
        low = step * steps.batch_size
        high = tf.minimum(low + steps.steps_per_call * steps.batch_size, steps.num_examples)
        if isinstance(source, SplitArrays):
            images, labels = (tensor[low:high] for tensor in resident)
        else:
            images, labels = python_call(read, [low, high], (tf.uint8, tf.int32))
            images, labels = tf.ensure_shape(images, (None, source.image_bytes)), tf.ensure_shape(labels, (None,))
        lookup = _make_lookup(images, labels, scaling, rows=tf.range(tf.cast(low, tf.int32), tf.cast(high, tf.int32)))
        places = tf.range(steps.steps_per_call * steps.batch_size)
        places = tf.where(places < tf.shape(labels)[0], places, PADDING)
        index = tf.reshape(places, (-1, steps.batch_size))
        count = tf.reduce_sum(tf.cast(index >= 0, tf.float32), axis=1)
        return _element(index, count, replicas, steps, lookup)

    starts = tf.data.Dataset.range(0, steps.per_epoch, steps.steps_per_call)
    return _ready_ahead(_gathered(starts, call, scaling))


def _gathered(calls: tf.data.Dataset, gather, scaling: HostScaling | None) -> tf.data.Dataset:
    # In parallel over calls; their order is kept, because it is part of the result.
    return calls.map(gather, num_parallel_calls=_parallel_calls(scaling is not None), deterministic=True)


def _ready_ahead(calls: tf.data.Dataset) -> tf.data.Dataset:
    # An iterator that goes waits for the thread that tunes it, which may miss the call to end: TensorFlow wakes it
    # before it sets what the thread looks at. It then sleeps until its next round, and rounds grow to a minute apart,
    # so ends of training, of validation and of programs hung for as long. There is nothing to tune: all is given.
    options = tf.data.Options()
    options.autotune.enabled = False
    return calls.prefetch(_PREFETCH).with_options(options)


def _with_call_shapes(index: tf.Tensor, count: tf.Tensor, steps: Steps) -> tuple[tf.Tensor, tf.Tensor]:
    """What `in_calls` gave, with the shapes that a call into Python loses."""
    index = tf.ensure_shape(index, (None, steps.steps_per_call, steps.batch_size))
    return index, tf.ensure_shape(count, (None, steps.steps_per_call))


def _element(index, count, replicas: Replicas, steps: Steps, lookup):
    # An element costs a fixed time however many images it holds, so all that can be is done once an epoch, in NumPy.
    parts = tuple(lookup(index[:, rows]) for rows in replicas.rows(steps.batch_size))
    return {"count": count, "replicas": parts}


def _index_only(index):
    return {"index": index}


def _tensors(arrays: SplitArrays) -> tuple[tf.Tensor, tf.Tensor]:
    return host_tensor(arrays.images), host_tensor(arrays.labels)


def _make_lookup(images, labels, scaling: HostScaling | None, rows=None):
    """places int32 [steps, n] -> that part of an element; `rows` maps places to rows of the split where they differ."""

    def lookup(places):
        safe = tf.maximum(places, 0)
        # What is cached is bytes, a quarter of float32; they are normalised after the gather, in the batch's order.
        image = tf.gather(images, safe)
        index = places if rows is None else tf.where(places < 0, PADDING, tf.gather(rows, safe))
        return {"index": index, "image": scaling(image) if scaling else image, "label": tf.gather(labels, safe)}

    return lookup
