"""Shards to batches: the tf.data pipelines of training and of evaluation.

The unit is the call: `steps_per_call` batches that one host call trains on. An element is a dict of

- `count`, float32 [steps]: the examples of each step (0 for steps that only fill up an epoch's last call);
- `replicas`, one dict per local replica: `index` int32 [steps, rows] (the example's row in the split, -1 for padding),
  `image` uint8 [steps, rows, H*W*C], or normalized [steps, rows, H, W, C] if the host scales, and `label` int32 [steps,
  rows]. The device feed has neither image nor label, since the step looks them up.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.feed.normalize import Normalization
from pipeline.feed.order import PADDING, Steps, WorkerShare, epoch_order, in_calls
from pipeline.feed.python_calls import python_call
from pipeline.feed.resident import SplitArrays, host_tensor
from pipeline.feed.stream import SplitReader

# Elements ready ahead of the training loop. Each is a whole call, so two hide a hiccup of one call's length.
_PREFETCH = 2
# Calls gathered at a time. A gather takes all cores by itself; more of them only fill the gaps between its stages, and
# a number that does not grow with the cores bounds what a feed holds. Scaling on the host takes one core per call.
_GATHERS, _MAX_SCALINGS = 3, 16

_Lookup = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def calls_ready(on_host: bool) -> int:
    """Elements that a feed holds at most, by whether images are scaled on the host."""
    return _parallel_calls(on_host) + _PREFETCH


def _parallel_calls(on_host: bool) -> int:
    return max(_GATHERS, min(os.cpu_count() or 1, _MAX_SCALINGS)) if on_host else _GATHERS


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Which rows of a global batch this process feeds: replicas `first` .. `first + local - 1` of `total`."""

    total: int = 1
    first: int = 0
    local: int = 1

    @property
    def num_workers(self) -> int:
        """Processes that feed as many replicas each."""
        return self.total // self.local

    @property
    def worker(self) -> int:
        return self.first // self.local

    def alone(self) -> "Replicas":
        """The local replicas, for a feed of this worker's rows only."""
        return Replicas(self.local, 0, self.local)

    def rows(self, batch_size: int) -> list[slice]:
        """The rows of each local replica."""
        if batch_size % self.total:
            raise ValueError(f"a batch of {batch_size} does not divide among {self.total} replicas")
        per_replica = batch_size // self.total
        return [slice(r * per_replica, (r + 1) * per_replica) for r in range(self.first, self.first + self.local)]


@dataclasses.dataclass(frozen=True)
class HostScaling:
    """Normalize in the pipeline rather than on the device: images leave it as `dtype` [..., H, W, C]."""

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
    lookup = _make_lookup(*_tensors(arrays), scaling) if arrays is not None else lambda index: {"index": index}

    def draw(epoch: np.int64) -> tuple[np.ndarray, np.ndarray]:
        order = epoch_order(steps.num_examples, seed, int(epoch))
        return in_calls(order, steps.batch_size, steps.steps_per_call)

    def order_of(epoch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        index, count = python_call(draw, [epoch], (tf.int32, tf.float32))
        return epoch, *_with_call_shapes(index, count, steps)

    def calls_of(epoch: Any, *order: Any) -> tf.data.Dataset:
        first = tf.where(epoch == start.epoch, start.step // steps.steps_per_call, 0)
        return tf.data.Dataset.from_tensor_slices(tuple(tensor[first:] for tensor in order))

    epochs = tf.data.Dataset.range(start.epoch, start.epochs)
    # One permutation per epoch; the next epoch's is drawn while this one trains, so that no epoch starts with a wait.
    orders = epochs.map(order_of, num_parallel_calls=1, deterministic=True).prefetch(1)
    # Shuffling is done here, on indices. A gather of a whole call is the only work done on pixels.
    return _ready_ahead(_elements(orders.flat_map(calls_of), lookup, replicas, steps, scaling))


def make_stream_dataset(
    reader: SplitReader,
    memory_budget: int,
    steps: Steps,
    seed: int,
    start: Position,
    replicas: Replicas,
    scaling: HostScaling | None = None,
) -> tf.data.Dataset:
    """Training batches read from disk: pages in random order, shuffled within windows that `memory_budget` allows.

    Only rows that the local replicas train on are read.
    """
    share = steps.share_of(replicas.worker, replicas.num_workers)
    pages = reader.page_order(memory_budget, steps.steps_per_call, share)
    calls = pages.window_rows // (share.per_step * steps.steps_per_call)
    first_window, skipped = divmod(start.step // steps.steps_per_call, calls)
    ours = dataclasses.replace(steps, batch_size=share.per_step)
    table = functools.lru_cache(1)(functools.partial(pages.pages, seed))

    def load(epoch: np.int64, window: np.int64) -> tuple[np.ndarray, ...]:
        order = pages.window_order(seed, int(epoch), int(window))
        reads = pages.window_reads(table(int(epoch)), int(window))
        return _load(reader, reads, order, steps, share, (int(window) * calls, calls))

    def windows_of(epoch: tf.Tensor) -> tf.data.Dataset:
        first = tf.where(epoch == start.epoch, tf.constant(first_window, tf.int64), tf.constant(0, tf.int64))
        # By the calls and not by this worker's rows, which may end a step before another's.
        return tf.data.Dataset.range(first, -(-steps.num_calls // calls)).map(lambda window: (epoch, window))

    def read_window(epoch: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return epoch, window, *_read(load, [epoch, window], reader.image_bytes, ours)

    def calls_of(*read: Any) -> tf.data.Dataset:
        epoch, window, images, labels, rows, places, count = read
        first = tf.where((epoch == start.epoch) & (window == first_window), skipped, 0)
        lookup = _make_lookup(images, labels, scaling, rows=rows)
        cut = tf.data.Dataset.from_tensor_slices((places[first:], count[first:]))
        return _elements(cut, lookup, replicas.alone(), ours, scaling)

    epochs = tf.data.Dataset.range(start.epoch, start.epochs)
    # The next window is read while this one is trained on: disk and compute overlap, at two windows of memory.
    ready = epochs.flat_map(windows_of).map(read_window, num_parallel_calls=1, deterministic=True).prefetch(1)
    return _ready_ahead(ready.flat_map(calls_of))


def _load(
    reader: SplitReader, reads: np.ndarray, order: np.ndarray, steps: Steps, share: WorkerShare, calls: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """Images, labels, rows, and `in_calls` of `order`: a worker's rows of `calls`, their first and how many."""
    first, limit = calls
    # A worker may have no row left in an epoch's last call, and its padding is gathered from something, too.
    arrays, rows = reader.read(reads if len(reads) else np.array([[0, 0, 1]]))
    count = steps.counts(first, min(limit, steps.num_calls - first))
    return (
        arrays.images,
        arrays.labels,
        rows.astype(np.int32),
        *in_calls(order, share.per_step, steps.steps_per_call, count),
    )


def _read(load: Callable, arguments: Sequence[tf.Tensor], image_bytes: int, steps: Steps) -> tuple[tf.Tensor, ...]:
    """What `load` reads: images, labels and rows as they lie on disk, and `in_calls` of the places in them."""
    types = (tf.uint8, tf.int32, tf.int32, tf.int32, tf.float32)
    images, labels, rows, places, count = python_call(load, arguments, types)
    images = tf.ensure_shape(images, (None, image_bytes))
    labels, rows = tf.ensure_shape(labels, (None,)), tf.ensure_shape(rows, (None,))
    return images, labels, rows, *_with_call_shapes(places, count, steps)


def make_evaluation_dataset(
    source: SplitArrays | SplitReader, steps: Steps, replicas: Replicas, scaling: HostScaling | None = None
) -> tf.data.Dataset:
    """One pass over the split: every example exactly once; places after the last one are padding.

    A worker alone gets it in order; of several that read from disk, each reads one stretch of it.
    """
    if isinstance(source, SplitArrays):
        order = np.arange(steps.num_examples, dtype=np.int32)
        calls = tf.data.Dataset.from_tensor_slices(in_calls(order, steps.batch_size, steps.steps_per_call))
        return _ready_ahead(_elements(calls, _make_lookup(*_tensors(source), scaling), replicas, steps, scaling))
    reader, share = source, steps.share_of(replicas.worker, replicas.num_workers)
    ours, rows_per_call = dataclasses.replace(steps, batch_size=share.per_step), share.per_step * steps.steps_per_call

    def load(call: np.int64) -> tuple[np.ndarray, ...]:
        low, high = (min(share.start + int(k) * rows_per_call, share.stop) for k in (call, call + 1))
        order = np.arange(high - low, dtype=np.int32)
        return _load(reader, reader.reads_of(low, high), order, steps, share, (int(call), 1))

    def read_call(call: tf.Tensor) -> dict:
        images, labels, rows, places, count = _read(load, [call], reader.image_bytes, ours)
        return _element(places[0], count[0], _make_lookup(images, labels, scaling, rows), replicas.alone(), ours)

    return _ready_ahead(_gathered(tf.data.Dataset.range(steps.num_calls), read_call, scaling))


def _elements(
    calls: tf.data.Dataset, lookup: _Lookup, replicas: Replicas, steps: Steps, scaling: HostScaling | None
) -> tf.data.Dataset:
    return _gathered(calls, lambda index, count: _element(index, count, lookup, replicas, steps), scaling)


def _gathered(calls: tf.data.Dataset, gather: Callable[..., dict], scaling: HostScaling | None) -> tf.data.Dataset:
    # In parallel over calls; their order is kept, because it is part of the result.
    return calls.map(gather, num_parallel_calls=_parallel_calls(scaling is not None), deterministic=True)


def _ready_ahead(calls: tf.data.Dataset) -> tf.data.Dataset:
    # An iterator that ends waits for the thread that tunes it, which may miss the request to end: TensorFlow wakes it
    # before it sets the flag that the thread checks. It then sleeps until its next round, and rounds grow to a minute
    # apart; training, validation and programs hung that long at their end. All that could be tuned is set explicitly.
    options = tf.data.Options()
    options.autotune.enabled = False
    return calls.prefetch(_PREFETCH).with_options(options)


def _with_call_shapes(index: tf.Tensor, count: tf.Tensor, steps: Steps) -> tuple[tf.Tensor, tf.Tensor]:
    """The result of `in_calls`, with the shapes that a call into Python loses."""
    index = tf.ensure_shape(index, (None, steps.steps_per_call, steps.batch_size))
    return index, tf.ensure_shape(count, (None, steps.steps_per_call))


def _element(index: tf.Tensor, count: tf.Tensor, lookup: _Lookup, replicas: Replicas, steps: Steps) -> dict:
    # An element costs a fixed time however many images it holds, so all that can be is done once per epoch, in NumPy.
    parts = tuple(lookup(index[:, rows]) for rows in replicas.rows(steps.batch_size))
    return {"count": count, "replicas": parts}


def _tensors(arrays: SplitArrays) -> tuple[tf.Tensor, tf.Tensor]:
    return host_tensor(arrays.images), host_tensor(arrays.labels)


def _make_lookup(
    images: tf.Tensor, labels: tf.Tensor, scaling: HostScaling | None, rows: tf.Tensor | None = None
) -> _Lookup:
    """places int32 [steps, n] -> that part of an element; `rows` maps places to rows of the split if they differ."""

    def lookup(places: tf.Tensor) -> dict[str, tf.Tensor]:
        safe = tf.maximum(places, 0)
        # Memory holds bytes, a quarter of float32; they are normalized after the gather, in the batch's order.
        image = tf.gather(images, safe)
        index = places if rows is None else tf.where(places < 0, PADDING, tf.gather(rows, safe))
        return {"index": index, "image": scaling(image) if scaling else image, "label": tf.gather(labels, safe)}

    return lookup
