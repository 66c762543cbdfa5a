import json

import pytest

from pipeline.benchmark.results import BASELINE, Results, Row, describe_machine
from pipeline.benchmark.timing import Rates

MACHINE = {
    **{"date": "2026-11-26", "hardware": ["a processor"], "instructions": ["avx2"], "cores": 2},
    "versions": {"python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.15.1"},
}
SETTINGS = {"batch_size": 256, "steps_per_call": 4, "precision": "float32", "xla": False}


def results(fast: tuple[float, ...] = (100.0, 300.0), slow: tuple[float, ...] = (50.0, 100.0)) -> Results:
    rows = [
        Row("fast", "a gather", Rates(fast, (1e-6, 3e-6)), bytes_per_image=784),
        Row("slow", "a loop", Rates(slow), BASELINE),
    ]
    return Results("feed", {**MACHINE, **SETTINGS}, rows, [("fast", "slow")], "it is fast")


@pytest.mark.parametrize(
    ("fast", "median", "unstable"),
    [((4.0, 6.0, 8.0), 3.0, False), ((2.0, 8.0, 20.0), 4.0, True)],
    ids=["close together", "further apart than the ratio"],
)
def test_ratio_is_taken_round_by_round(fast, median, unstable):
    ratio = results(fast, (2.0, 2.0, 2.0)).ratio("fast", "slow")
    assert (ratio.median, ratio.unstable) == (median, unstable)


def test_rows_are_found_by_id():
    assert results().row("slow").text == "a loop"
    with pytest.raises(KeyError, match="a loop"):
        results().row("a loop")


def test_two_rows_with_one_id_are_refused():
    row = Row("same", "", Rates((1.0,)))
    with pytest.raises(ValueError, match=r"rows must have different ids: \['same', 'same'\]"):
        Results("feed", MACHINE, [row, row])


def test_comparison_with_a_missing_row_is_refused():
    with pytest.raises(KeyError, match="absent"):
        Results("feed", MACHINE, [Row("fast", "", Rates((1.0,)))], [("fast", "absent")])


def test_share_of_peak_follows_from_operations_per_image():
    row = Row("step", "", Rates((10.0,)), flops_per_image=30, peak_flops=600.0)
    assert (row.flops_per_second, row.share_of_peak) == (300.0, 0.5)


def test_json_has_every_round_with_the_machine():
    content = json.loads(results().to_json())
    assert content["machine"]["hardware"] == ["a processor"]
    assert content["rows"][0] == {
        **{"id": "fast", "text": "a gather", "group": "ours", "images_per_second": 200.0, "rounds": [100.0, 300.0]},
        **{"spread": 1.0, "cpu_microseconds_per_image": pytest.approx(2.0)},
        **{"bytes_per_image": 784, "flops_per_image": 0, "peak_flops": 0.0},
    }
    ratio = {"above": "fast", "below": "slow", "rounds": [2.0, 3.0], "median": 2.5, "unstable": False}
    assert content["ratios"] == [ratio]
    assert content["diagnosis"] == "it is fast"


def test_markdown_columns_line_up_and_empty_ones_are_omitted():
    machine, rows, ratios, diagnosis = results().to_markdown().split("\n\n")
    assert machine.startswith("2026-11-26; a processor (avx2); 2 cores; batch 256; 4 steps per call; float32; XLA off;")
    assert rows.splitlines() == [
        "| row  | images/s | spread | MB/s | CPU us/image | what it is |",
        "| ---- | -------: | -----: | ---: | -----------: | ---------- |",
        "| fast |      200 |   100% |    0 |            2 | a gather   |",
        "| slow |       75 |    67% |      |              | a loop     |",
    ]
    assert ratios.splitlines()[2] == "| fast / slow |   2.50 | 2.00, 3.00 |"
    assert diagnosis == "it is fast"


def test_markdown_gives_no_median_for_an_unstable_ratio():
    assert "| fast / slow | unstable | 1.00, 9.00 |" in results((1.0, 9.0), (1.0, 1.0)).to_markdown()


def test_machine_line_omits_settings_that_rows_do_not_share():
    line = describe_machine(MACHINE)
    assert line == "2026-11-26; a processor (avx2); 2 cores; Python 3.11.7; TensorFlow 2.21.0; Keras 3.15.1"
