import pytest

from pipeline.train.meter import Rates, ThroughputMeter, measure_rounds


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


def test_rates_give_median_and_spread():
    rates = Rates((90.0, 100.0, 120.0))
    assert (rates.median, rates.spread) == (100.0, 0.3)


def test_rounds_are_interleaved():
    started = []

    def kind(name):
        def start():
            started.append(name)
            return iter((1, 1))

        return start

    first, second = measure_rounds([kind("a"), kind("b")], rounds=2, clock=FakeClock(0, 1, 1, 3, 3, 4, 4, 6))
    assert started == ["a", "b", "a", "b"]
    assert (first.rounds, second.rounds) == ((1.0, 1.0), (0.5, 0.5))
