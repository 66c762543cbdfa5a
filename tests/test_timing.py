from collections.abc import Callable

import pytest

from pipeline.benchmark.timing import Rates, measure_rounds, measure_settled, run_for, warm_up


def counting() -> tuple[Callable[[], int], list[int]]:
    """Work of 10 images, and the list of what was done."""
    done = []

    def work() -> int:
        done.append(10)
        return 10

    return work, done


def test_measurement_has_a_start_mark_and_two_intervals_however_short():
    work, done = counting()
    assert list(run_for(0.0, work)) == done == [10] * 3


def test_warm_up_lasts_until_its_images_are_done():
    work, done = counting()
    warm_up(0.0, work, images=95)
    assert sum(done) == 100


def test_rounds_take_turns_and_the_first_mark_only_starts_the_clock():
    started = []

    def kind(name, marks):
        def start():
            started.append(name)
            return iter(marks)

        return start

    clock = iter([0.0, 1.0, 2.0, 10.0, 14.0, 20.0, 21.0, 22.0, 30.0, 34.0]).__next__
    rates = measure_rounds({"a": kind("a", (5, 1, 1)), "b": kind("b", (5, 2))}, rounds=2, clock=clock)
    assert started == ["a", "b", "a", "b"]
    assert (rates["a"].rounds, rates["b"].rounds) == ((1.0, 1.0), (0.5, 0.5))


def test_only_settled_work_counts():
    (first, first_done), (second, second_done) = counting(), counting()
    rates = measure_settled({"first": first, "second": second}, rounds=2, seconds=1e-9)
    assert [len(of_work.rounds) for of_work in rates.values()] == [2, 2]
    # In each round three marks to settle, and three that count.
    assert len(first_done) == len(second_done) == 2 * (3 + 3)


def test_rates_give_median_spread_and_cpu_time():
    rates = Rates((90.0, 100.0, 120.0), (1e-6, 2e-6, 6e-6))
    assert (rates.median, rates.spread) == (100.0, 0.3)
    assert rates.cpu_microseconds == pytest.approx(2.0)
    assert Rates((90.0,)).cpu_microseconds is None
