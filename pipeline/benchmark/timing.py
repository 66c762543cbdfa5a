"""How a measurement is timed: rounds that take turns, each settled before its clock starts, and rates per round."""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

from pipeline.train.progress import ThroughputMeter

_MIN_CALLS = 3  # the end of the first call starts the clock, so this is two intervals, however slow the work is
_SETTLING_SHARE = 0.25  # of a round's length


@dataclasses.dataclass(frozen=True)
class Rates:
    """Images per second in each round of the same work, and CPU seconds per image, over all threads of the process."""

    rounds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median. A smaller difference between two rates means nothing."""
        return (max(self.rounds) - min(self.rounds)) / self.median if self.median else 0.0


def measure_rounds(
    work: Mapping[str, Callable[[], int]], rounds: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Rates]:
    """Time several kinds of work in turns, so that a noisy minute slows all of them.

    Args:
        work: by id; a call does some work and returns the images done.
        rounds: how often each kind is measured, after a warm-up round that does not count: tf.data tunes pipelines with
            AUTOTUNE while they run, and without a warm-up the first round was four times slower than the second.
        seconds: shortest length of one measurement.
    """
    meters: dict[str, list[ThroughputMeter]] = {row_id: [] for row_id in work}
    for _ in range(rounds + 1):
        for row_id, function in work.items():
            # Buffers were filled while other work was measured, and their content must not count.
            for _ in _run_for(seconds * _SETTLING_SHARE, function, clock):
                pass
            meter = ThroughputMeter(clock)
            for images in _run_for(seconds, function, clock):
                meter.mark(images)
            meters[row_id].append(meter)
    return {
        row_id: Rates(
            tuple(meter.images_per_second for meter in row_meters[1:]),
            tuple(meter.cpu_seconds_per_image for meter in row_meters[1:]),
        )
        for row_id, row_meters in meters.items()  # without the first, the warm-up
    }


def _run_for(seconds: float, function: Callable[[], int], clock: Callable[[], float]) -> Iterator[int]:
    """Yield what `function` returns, call by call, for at least this long and at least three times."""
    end = clock() + seconds
    for calls in itertools.count(1):
        yield function()
        if calls >= _MIN_CALLS and clock() >= end:
            return
