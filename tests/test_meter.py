import pytest

from pipeline.train.progress import ThroughputMeter


class FakeClock:
    """Each reading is the next of the given times."""

    def __init__(self, *times: float) -> None:
        self._times = iter(times)

    def __call__(self) -> float:
        return next(self._times)


def test_the_first_mark_is_a_fence_post_and_not_an_interval():
    meter = ThroughputMeter(FakeClock(100.0, 101.0, 102.0, 104.0))
    for _ in range(4):
        meter.mark(50)
    assert (meter.images, meter.seconds, meter.images_per_second) == (150, 4.0, 37.5)


@pytest.mark.parametrize("marks", [0, 1])
def test_without_an_interval_there_is_no_rate(marks):
    meter = ThroughputMeter(FakeClock(5.0))
    for _ in range(marks):
        meter.mark(10)
    assert meter.images_per_second == 0.0


def test_a_partial_last_batch_counts_by_its_images():
    meter = ThroughputMeter(FakeClock(0.0, 1.0, 1.5))
    for images in (32, 32, 8):
        meter.mark(images)
    assert meter.images_per_second == 40 / 1.5
