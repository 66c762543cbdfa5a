"""How long a measurement runs, and what comes before it."""

import itertools
import time
from collections.abc import Callable, Iterator

_LEAST_MARKS = 3  # a warm-up and two intervals, however slow the work is


def for_seconds(seconds: float, work: Callable[[], int]) -> Iterator[int]:
    """Yield what `work` returns, call by call, for so long and at least a few times."""
    end = time.perf_counter() + seconds
    for done in itertools.count(1):
        yield work()
        if done >= _LEAST_MARKS and time.perf_counter() >= end:
            return


def warm_up(seconds: float, work: Callable[[], int], images: int = 0) -> None:
    """Do `work` for so long, and until so many images are done, before anything is counted.

    tf.data looks for its degree of parallelism while it runs, and its iterators live through all rounds: without this
    the first round was measured at a quarter of the next ones.
    """
    done = sum(for_seconds(seconds, work))
    while done < images:
        done += work()
