from pipeline.benchmark.timing import for_seconds, settled_rounds, warm_up


def counting():
    """Work of 10 images, and the list of what was done."""
    done = []

    def work():
        done.append(10)
        return 10

    return work, done


def test_a_measurement_has_a_warm_up_and_two_intervals_however_short():
    work, done = counting()
    assert list(for_seconds(0.0, work)) == done == [10] * 3


def test_a_warm_up_goes_on_until_its_images_are_done():
    work, done = counting()
    warm_up(0.0, work, images=95)
    assert sum(done) == 100


def test_rounds_take_turns_and_count_only_what_has_settled():
    first, of_first = counting()
    second, of_second = counting()
    rates = settled_rounds([first, second], rounds=2, seconds=1e-9)
    assert [len(found.rounds) for found in rates] == [2, 2]
    # Three marks to settle, and three that are counted, in each of the rounds.
    assert len(of_first) == len(of_second) == 2 * (3 + 3)
