"""From a dataset of calls to values on the replicas' devices, one call ahead of the loop."""

import atexit
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from pipeline.errors import InputError
from pipeline.feed.dataset import Position
from pipeline.feed.resident import SplitArrays
from pipeline.train.audit import ReadIds
from pipeline.train.devices import Devices


@dataclasses.dataclass(frozen=True)
class Feeds:
    """What a run trains on.

    `train(position)` and `validation()`, where there is such a split, make data sets of calls; `table` is the split
    that the device feed looks up in; `read_ids` tells rows of the training split by the ids of the CSV.
    """

    train: Callable[[Position], tf.data.Dataset]
    validation: Callable[[], tf.data.Dataset] | None
    table: SplitArrays | None
    read_ids: ReadIds


def prefetch_to_devices(dataset: tf.data.Dataset, devices: Devices) -> Iterator[tuple]:
    """Yield (parts, count): an element's part on each replica's device, and float32 [steps] examples a step.

    A thread copies the next element to the devices while the current one is trained on, so that the bus works behind
    the computation. Close the iterator (or exhaust it) to end the thread.
    """
    ready: queue.Queue = queue.Queue(maxsize=1)
    closed = threading.Event()

    def put(item) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def copy_ahead() -> None:
        try:
            for element in dataset:
                if not put(_on_devices(element, devices)):
                    return
            put(None)
        except BaseException as error:  # carried to the loop, which raises it
            put(_as_input_error(error) or error)

    thread = threading.Thread(target=copy_ahead, name="feed-replicas", daemon=True)
    _alive.add((closed, thread))
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        _end(closed, thread)


# Of those that nobody has closed yet. Python stops their threads in the midst of what they do, and a generator that it
# frees after that waited for its own for ever (Python 3.13).
_alive: set[tuple[threading.Event, threading.Thread]] = set()


def _end(closed: threading.Event, thread: threading.Thread) -> None:
    closed.set()
    thread.join()
    _alive.discard((closed, thread))


@atexit.register
def _end_all() -> None:
    for each in tuple(_alive):
        _end(*each)


def _as_input_error(error: BaseException) -> InputError | None:
    """The mistake in the data that a pipeline's reader found; TensorFlow passes on its name and text alone."""
    name = f"{InputError.__name__}: "
    if isinstance(error, tf.errors.OpError) and name in error.message:
        return InputError(error.message.split(name, 1)[1].splitlines()[0])
    return None


def _on_devices(element, devices: Devices):
    parts = []
    for device, part in zip(devices.names, element["replicas"], strict=True):
        if devices.accelerator == "CPU":
            parts.append(part)  # logical CPUs share the host's memory
            continue
        with tf.device(device):
            parts.append(tf.nest.map_structure(tf.identity, part))
    return devices.distribute(tuple(parts)), element["count"]
