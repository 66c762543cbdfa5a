"""Python functions inside tf.data pipelines, which are done before Python ends.

A pipeline works ahead on threads of TensorFlow's. One that asks for Python's lock once Python has begun to end is ended
by it there and then, and whoever frees the iterator waits for its answer for ever: scripts that held iterators at their
end hung in four runs of four (TensorFlow 2.21, Python 3.11).
"""

import atexit
import threading
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

_LOOK_SECONDS = 0.01  # between two looks, in which threads that wait for Python's lock get it
_QUIET_LOOKS = 3


class _Calls:
    """Counts calls, and refuses them once the program ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = self._done = 0
        self._ending = False
        self.last_error: BaseException | None = None

    def run(self, function: Callable, arguments: Sequence):
        with self._lock:
            self._begun += 1
        try:
            if self._ending:
                raise StopIteration  # the end of the data for TensorFlow, which then logs nothing
            return function(*arguments)
        except Exception as error:
            self.last_error = error
            raise
        finally:
            with self._lock:
                self._done += 1

    def drain(self) -> None:
        """Wait until nothing runs, and nothing has begun for a while: a pipeline whose calls fail asks for no more."""
        self._ending = True
        seen, quiet = self._begun, 0
        while self._begun and quiet < _QUIET_LOOKS:
            time.sleep(_LOOK_SECONDS)
            quiet = quiet + 1 if self._begun == self._done == seen else 0
            seen = self._begun


_calls = _Calls()
atexit.register(_calls.drain)


def python_call(function: Callable, arguments: Sequence[tf.Tensor], dtypes: Sequence[tf.DType]) -> Sequence[tf.Tensor]:
    """`tf.numpy_function` of a function without state, for use in a pipeline."""
    return tf.numpy_function(lambda *given: _calls.run(function, given), arguments, dtypes, stateful=False)


def original_error(error: BaseException) -> BaseException | None:
    """The exception of a Python callback that ended a pipeline with this TensorFlow error, or None."""
    kept, _calls.last_error = _calls.last_error, None
    return (
        kept
        if isinstance(error, tf.errors.OpError) and kept is not None and type(kept).__name__ in str(error)
        else None
    )
