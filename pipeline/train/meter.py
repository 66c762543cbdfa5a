"""Images per second, counted between fence posts.

A rate over n marks has n - 1 intervals: the images of the first mark were worked on before the clock was read, so they
do not count (TensorFlow Datasets' own meter counts them, and reads a quarter high on short runs).
"""

import time
from collections.abc import Callable


class ThroughputMeter:
    """Counts images between the first mark and the last; what came before the first mark is warm-up."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._first: float | None = None
        self._last = 0.0
        self._images = 0
        self._first_cpu = self._last_cpu = 0.0

    def mark(self, images: int) -> None:
        """Count `images` more as done. The first mark only starts the clock."""
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
