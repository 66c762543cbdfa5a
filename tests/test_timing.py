from pipeline.benchmark.timing import Rates, measure_rounds


class Work:
    """Work of 10 images per call, which takes these seconds of a clock of its own; the last number repeats."""

    now = 0.0

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.calls: list[float] = []

    def __call__(self) -> int:
        Work.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        self.calls.append(Work.now)
        return 10


def test_rounds_take_turns_and_count_intervals_of_settled_work():
    # The first round, of 3 + 3 calls, is a warm-up, and so are the first 3 calls of the next.
    slow_start, steady = Work(*[9.0] * 9, 7.0, 5.0, 5.0), Work(2.0)
    rates = measure_rounds({"slow start": slow_start, "steady": steady}, 2, seconds=0.1, clock=lambda: Work.now)
    # The call of 7 seconds only starts the clock.
    assert (rates["slow start"].rounds, rates["steady"].rounds) == ((2.0, 2.0), (5.0, 5.0))
    assert len(slow_start.calls) == len(steady.calls) == 3 * (3 + 3)
    assert slow_start.calls[5] < steady.calls[0] < slow_start.calls[6] < steady.calls[6]


def test_measurement_lasts_for_the_requested_time():
    work = Work(1.0)
    measure_rounds({"work": work}, 1, seconds=20.0, clock=lambda: Work.now)
    assert len(work.calls) == 2 * (5 + 20)


def test_rates_give_median_and_spread():
    rates = Rates((90.0, 100.0, 120.0), (1e-6, 2e-6, 6e-6))
    assert (rates.median, rates.spread) == (100.0, 0.3)
