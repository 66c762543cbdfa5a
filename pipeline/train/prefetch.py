"""From a dataset of calls to values on the replicas' devices, ahead of the loop."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.feed.dataset import Position
from pipeline.feed.python_calls import original_error
from pipeline.feed.resident import SplitArrays
from pipeline.train.audit import ReadIds
from pipeline.train.devices import Devices

AHEAD = 2  # calls on the devices or on their way there, besides the one trained on


@dataclasses.dataclass(frozen=True)
class Feeds:
    """What a run trains on.

    `train(position)`, and `validation()` if there is such a split, make data sets of calls; `statistics()` makes one of
    training calls that are always the same; `table` is the split that the device feed looks up in; `read_ids` gives the
    ids of rows trained on; `class_counts` int64 [num_classes] counts them by class.
    """

    train: Callable[[Position], tf.data.Dataset]
    statistics: Callable[[], tf.data.Dataset]
    validation: Callable[[], tf.data.Dataset] | None
    table: SplitArrays | None
    read_ids: ReadIds
    class_counts: np.ndarray


def prefetch_to_devices(dataset: tf.data.Dataset, devices: Devices) -> Iterator[tuple[Any, tf.Tensor]]:
    """Yield (parts, count): an element's part on each replica's device, and float32 [steps] examples per step.

    A thread copies the next elements to the devices while the current one is trained on, so that the bus works behind
    the computation. Close the iterator (or exhaust it) to end the thread.

    Raises:
        InputError: reading the data failed, as the feed reported it.
    """
    iterator = iter(dataset)

    def advance() -> tuple[Any, tf.Tensor] | None:
        try:
            # Not next(): an iterator's end is an error to TensorFlow, which operations of other threads on a GPU may
            # then report as theirs.
            with tf.device("CPU:0"):
                following = iterator.get_next_as_optional()
                element = following.get_value() if following.has_value() else None
        except tf.errors.OpError as error:
            if original := original_error(error):
                raise original from error
            raise
        return None if element is None else _on_devices(element, devices)

    executor = ThreadPoolExecutor(1, "prefetch")
    try:
        calls = collections.deque(executor.submit(advance) for _ in range(AHEAD))
        while (call := calls.popleft().result()) is not None:
            calls.append(executor.submit(advance))
            yield call
    finally:
        executor.shutdown(cancel_futures=True)


def _on_devices(element: Any, devices: Devices) -> tuple[Any, tf.Tensor]:
    parts = []
    for device, part in zip(devices.names, element["replicas"], strict=True):
        if devices.accelerator == "CPU":
            parts.append(part)  # logical CPUs share the host's memory
            continue
        with tf.device(device):
            parts.append(tf.nest.map_structure(_copy, part))
    return devices.distribute(tuple(parts)), element["count"]


def _copy(value: tf.Tensor) -> tf.Tensor:
    # int32 stays in the host's memory even on a GPU, so every step would copy its rows; int64 is copied here, ahead.
    return tf.cast(value, tf.int64) if value.dtype == tf.int32 else tf.identity(value)
