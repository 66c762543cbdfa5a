"""How a measurement is timed: a settled warm-up, rounds that take turns, and rates per round."""

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pipeline.train.meter import ThroughputMeter

_MIN_MARKS = 3  # the first mark starts the clock, so this is two intervals, however slow the work is
_SETTLING_SHARE = 0.25  # of a round's length


@dataclasses.dataclass(frozen=True)
class Rates:
    """Images per second in each round of the same work, and CPU seconds per image if they were measured."""

    rounds: tuple[float, ...]
    cpu_seconds: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median. A smaller difference between two rates means nothing."""
        return (max(self.rounds) - min(self.rounds)) / self.median if self.median else 0.0

    @property
    def cpu_microseconds(self) -> float | None:
        """Median CPU time per image in microseconds, over all threads of the process; None if not measured."""
        return statistics.median(self.cpu_seconds) * 1e6 if self.cpu_seconds else None


def measure_rounds(
    work: Mapping[str, Callable[[], Iterable[int]]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Rates]:
    """Time several kinds of work in turns, so that a noisy minute slows all of them.

    Args:
        work: by id; each call starts one round and yields the images done since the last mark. The first mark of a
            round only starts the clock.
        rounds: how often each kind is measured.
    """
    meters: dict[str, list[ThroughputMeter]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, start in work.items():
            meter = ThroughputMeter(clock)
            for images in start():
                meter.mark(images)
            meters[key].append(meter)
    return {key: _rates_of(of_key) for key, of_key in meters.items()}


def measure_settled(work: Mapping[str, Callable[[], int]], rounds: int, seconds: float) -> dict[str, Rates]:
    """Time several kinds of work in turns; each runs for a quarter of a round's length before it counts.

    Work with threads of its own fills its buffers while other work is measured. Without this pause it would hand
    those out at the start of its round, and come out too fast.
    """

    def start(function: Callable[[], int]) -> Iterator[int]:
        warm_up(seconds * _SETTLING_SHARE, function)
        return run_for(seconds, function)

    return measure_rounds({key: functools.partial(start, function) for key, function in work.items()}, rounds)


def run_for(seconds: float, function: Callable[[], int]) -> Iterator[int]:
    """Yield what `function` returns, call by call, for at least this long and at least three times."""
    end = time.perf_counter() + seconds
    for calls in itertools.count(1):
        yield function()
        if calls >= _MIN_MARKS and time.perf_counter() >= end:
            return


def warm_up(seconds: float, function: Callable[[], int], images: int = 0) -> None:
    """Call `function` for at least this long, and until it has returned at least `images` images in all.

    tf.data tunes pipelines with AUTOTUNE while they run: without this, their first round was four times slower than
    the second.
    """
    done = sum(run_for(seconds, function))
    while done < images:
        done += function()


def _rates_of(meters: Sequence[ThroughputMeter]) -> Rates:
    return Rates(
        tuple(meter.images_per_second for meter in meters), tuple(meter.cpu_seconds_per_image for meter in meters)
    )
