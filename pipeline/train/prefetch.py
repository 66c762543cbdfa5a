"""From a dataset of calls to values on the replicas' devices, one call ahead of the loop."""

import atexit
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from pipeline.feed.dataset import Position
from pipeline.feed.python_calls import original_error
from pipeline.feed.resident import SplitArrays
from pipeline.train.audit import ReadIds
from pipeline.train.devices import Devices


@dataclasses.dataclass(frozen=True)
class Feeds:
    """What a run trains on.

    `train(position)`, and `validation()` if there is such a split, make data sets of calls; `table` is the split that
    the device feed looks up in; `read_ids` gives the ids of rows of the training split.
    """

    train: Callable[[Position], tf.data.Dataset]
    validation: Callable[[], tf.data.Dataset] | None
    table: SplitArrays | None
    read_ids: ReadIds


def prefetch_to_devices(dataset: tf.data.Dataset, devices: Devices) -> Iterator[tuple[Any, tf.Tensor]]:
    """Yield (parts, count): an element's part on each replica's device, and float32 [steps] examples per step.

    A thread copies the next element to the devices while the current one is trained on, so that the bus works behind
    the computation. Close the iterator (or exhaust it) to end the thread.

    Raises:
        InputError: reading the data failed, as the feed reported it.
    """
    copier = _Copier(dataset, devices)
    try:
        while (item := copier.ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        copier.end()


class _Copier:
    """The thread, and the queue of one that it fills: an element, an error, or None at the end."""

    def __init__(self, dataset: tf.data.Dataset, devices: Devices) -> None:
        self.ready: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(dataset, devices), name="prefetch", daemon=True)
        _alive.add(self)
        self._thread.start()

    def end(self) -> None:
        self._closed.set()
        self._thread.join()
        _alive.discard(self)

    def _run(self, dataset: tf.data.Dataset, devices: Devices) -> None:
        try:
            for element in dataset:
                if not self._put(_on_devices(element, devices)):
                    return
            self._put(None)
        except BaseException as error:  # carried to the loop, which raises it
            self._put(original_error(error) or error)

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self.ready.put(item, timeout=0.1)
                return True
        return False


# Python stops the threads of iterators that were never closed in the midst of their work, and a generator freed after
# that waited for its thread forever (Python 3.13).
_alive: set[_Copier] = set()


@atexit.register
def _end_all() -> None:
    for copier in tuple(_alive):
        copier.end()


def _on_devices(element: Any, devices: Devices) -> tuple[Any, tf.Tensor]:
    parts = []
    for device, part in zip(devices.names, element["replicas"], strict=True):
        if devices.accelerator == "CPU":
            parts.append(part)  # logical CPUs share the host's memory
            continue
        with tf.device(device):
            parts.append(tf.nest.map_structure(tf.identity, part))
    return devices.distribute(tuple(parts)), element["count"]
