"""How long a measurement runs, and what comes before it."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from pipeline.train.meter import Rates, measure_rounds

_MIN_MARKS = 3  # a warm-up and two intervals, however slow the work is
_SETTLING = 0.25  # of a round's length


def for_seconds(seconds: float, work: Callable[[], int]) -> Iterator[int]:
    """Yield what `work` returns, call by call, for so long and at least a few times."""
    end = time.perf_counter() + seconds
    for done in itertools.count(1):
        yield work()
        if done >= _MIN_MARKS and time.perf_counter() >= end:
            return


def settled_rounds(work: Sequence[Callable[[], int]], rounds: int, seconds: float) -> list[Rates]:
    """Measure several kinds of work in turns, `rounds` times for so long each, once they have settled.

    What works on while others are measured fills its buffers, and would hand them out in the first moments of its
    round: so a quarter of a round's length goes by before anything is counted.
    """

    def settled(one: Callable[[], int]) -> Iterator[int]:
        for _ in for_seconds(seconds * _SETTLING, one):
            pass
        return for_seconds(seconds, one)

    return measure_rounds([functools.partial(settled, one) for one in work], rounds)


def warm_up(seconds: float, work: Callable[[], int], images: int = 0) -> None:
    """Do `work` for so long, and until so many images are done, before anything is counted.

    tf.data tunes the recipes of others while they run, and all iterators live through all rounds: without this
    the first round was measured at a quarter of the next ones.
    """
    done = sum(for_seconds(seconds, work))
    while done < images:
        done += work()
