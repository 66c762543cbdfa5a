"""Images per second, counted between fence posts.

A rate over n marks has n - 1 intervals: the images of the first mark were worked on before the clock was read, so they
do not count (TensorFlow Datasets' own meter counts them, and reads a quarter high on short runs).
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Sequence


class ThroughputMeter:
    """Counts images between the first mark and the last; what came before the first mark is warm-up."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._first: float | None = None
        self._last = 0.0
        self._images = 0
        self._first_cpu = self._last_cpu = 0.0

    def mark(self, images: int) -> None:
        """Say that `images` more are done. The first mark only starts the clock."""
        now, cpu = self._clock(), time.process_time()
        if self._first is None:
            self._first, self._first_cpu = now, cpu
        else:
            self._images += images
        self._last, self._last_cpu = now, cpu

    @property
    def images(self) -> int:
        """Images between the fence posts."""
        return self._images

    @property
    def seconds(self) -> float:
        return 0.0 if self._first is None else self._last - self._first

    @property
    def images_per_second(self) -> float:
        """0.0 until there is an interval to measure."""
        return self._images / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_seconds_per_image(self) -> float:
        """CPU time of all threads of this process between the fence posts, for one image."""
        return (self._last_cpu - self._first_cpu) / self._images if self._images else 0.0


@dataclasses.dataclass(frozen=True)
class Rates:
    """Images per second of several rounds of the same work, and CPU seconds an image where they were taken."""

    rounds: tuple[float, ...]
    cpu_seconds: tuple[float, ...] = ()

    @property
    def cpu_microseconds(self) -> float | None:
        """CPU time of an image, microseconds, median; None where it was not taken."""
        return statistics.median(self.cpu_seconds) * 1e6 if self.cpu_seconds else None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median; what a difference between two rates must exceed to mean anything."""
        return (max(self.rounds) - min(self.rounds)) / self.median if self.median else 0.0


def measure_rounds(
    work: Sequence[Callable[[], Iterable[int]]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[Rates]:
    """Time several kinds of work, interleaved round by round so that a noisy minute falls on all of them.

    Args:
        work: each call starts one kind of work afresh and yields the images done, mark by mark; the first mark of a
            round is its warm-up.
        rounds: how often each is run.
    """
    meters: list[list[ThroughputMeter]] = [[] for _ in work]
    for _ in range(rounds):
        for found, start in zip(meters, work, strict=True):
            meter = ThroughputMeter(clock)
            for images in start():
                meter.mark(images)
            found.append(meter)
    return [rates_of(found) for found in meters]


def rates_of(meters: Sequence[ThroughputMeter]) -> Rates:
    """What meters of the same work found, one a round."""
    return Rates(
        tuple(meter.images_per_second for meter in meters), tuple(meter.cpu_seconds_per_image for meter in meters)
    )
