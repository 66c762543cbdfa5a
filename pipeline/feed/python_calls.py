"""Python functions inside tf.data pipelines: their exceptions are kept, and they finish before Python exits.

A pipeline works ahead on TensorFlow's threads. A thread that requests the GIL once Python is exiting is terminated
at once, and the code that frees the iterator waits for it forever: scripts that still held iterators at their end hung
in four runs of four (TensorFlow 2.21, Python 3.11).
"""

import atexit
import collections
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

_POLL_SECONDS = 0.01  # in which threads that wait for the GIL get it
_QUIET_POLLS = 3
_MAX_KEPT = 4  # exceptions; each keeps alive what its frames hold


class _Calls:
    """Counts calls, keeps what they raise, and refuses them once the program ends."""

    def __init__(self) -> None:
        self.raised: collections.deque[Exception] = collections.deque(maxlen=_MAX_KEPT)
        self._lock = threading.Lock()
        self._begun = self._done = 0
        self._ending = False

    def run(self, function: Callable, arguments: Sequence) -> Any:
        with self._lock:
            self._begun += 1
        try:
            if self._ending:
                raise StopIteration  # the end of the data for TensorFlow, which then logs nothing
            return function(*arguments)
        except Exception as error:
            if not self._ending:
                self.raised.append(error)
            raise
        finally:
            with self._lock:
                self._done += 1

    def drain(self) -> None:
        """Wait until nothing runs, and nothing has begun for a while: a pipeline whose calls fail makes no others."""
        self._ending = True
        seen, quiet = self._begun, 0
        while self._begun and quiet < _QUIET_POLLS:
            time.sleep(_POLL_SECONDS)
            quiet = quiet + 1 if self._begun == self._done == seen else 0
            seen = self._begun


_calls = _Calls()
atexit.register(_calls.drain)


def python_call(function: Callable, arguments: Sequence[tf.Tensor], dtypes: Sequence[tf.DType]) -> Sequence[tf.Tensor]:
    """`tf.numpy_function` of a function without state, for use in a pipeline."""
    return tf.numpy_function(lambda *given: _calls.run(function, given), arguments, dtypes, stateful=False)


def original_error(error: BaseException) -> Exception | None:
    """The exception that a function of `python_call` raised and that ended a pipeline with this error, or None.

    TensorFlow passes on only the line "TYPE: TEXT" in its message; by that the kept exception is recognized. It is
    returned once.
    """
    if isinstance(error, tf.errors.OpError):
        for raised in reversed(_calls.raised):
            if f"{type(raised).__name__}: {raised}\n" in f"{error.message}\n":
                _calls.raised.remove(raised)
                return raised
    return None
