import json

import pytest

from pipeline.benchmark.results import Results, Row, describe_machine
from pipeline.benchmark.timing import Rates
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.run_plan import make_run_plan

MACHINE = {
    **{"date": "2026-11-26", "hardware": ["a processor"], "instructions": ["avx2"], "cores": 2},
    **{"versions": {"tensorflow": "2.21.0"}, "batch_size": 256, "steps_per_call": 4, "xla": "off"},
}


def results(fast: tuple[float, ...] = (100.0, 300.0), slow: tuple[float, ...] = (50.0, 100.0)) -> Results:
    rows = [
        Row("fast", "a gather", Rates(fast, (1e-6, 3e-6)), bytes_per_image=10**6),
        Row("slow", "a loop", Rates(slow, (1e-4, 3e-4))),
    ]
    return Results("feed", MACHINE, rows, [("fast", "slow")], "it is fast")


@pytest.mark.parametrize(
    ("fast", "median", "text"),
    [((4.0, 6.0, 8.0), 3.0, "|   3.00 |"), ((2.0, 8.0, 20.0), 4.0, "| unstable |")],
    ids=["close together", "further apart than the ratio"],
)
def test_ratio_is_taken_round_by_round(fast, median, text):
    measured = results(fast, (2.0, 2.0, 2.0))
    assert measured.ratio("fast", "slow").median == median
    assert text in measured.to_markdown()


def test_rows_are_picked_by_their_different_ids():
    assert results().row("slow").text == "a loop"
    with pytest.raises(KeyError, match="a loop"):
        results().row("a loop")
    row = results().row("slow")
    with pytest.raises(ValueError, match=r"rows must have different ids: \['slow', 'slow'\]"):
        Results("feed", MACHINE, [row, row])


def test_share_of_peak_follows_from_operations_per_image():
    row = Row("step", "", Rates((10.0,), (0.0,)), flops_per_image=30, peak_flops=600.0)
    assert (row.flops_per_second, row.share_of_peak) == (300.0, 0.5)


def test_json_has_every_round_with_the_machine():
    content = json.loads(results().to_json())
    assert content["machine"] == MACHINE
    assert content["rows"][0] == {
        **{"id": "fast", "text": "a gather", "images_per_second": 200.0},
        **{"rates": {"rounds": [100.0, 300.0], "cpu_seconds": [1e-6, 3e-6]}},
        **{"bytes_per_image": 10**6, "flops_per_image": 0, "peak_flops": 0.0},
    }
    assert content["ratios"] == [{"above": "fast", "below": "slow", "rounds": [2.0, 3.0], "median": 2.5}]
    assert content["diagnosis"] == "it is fast"


def test_markdown_columns_line_up_and_empty_ones_are_omitted():
    machine, rows, ratios, diagnosis = results().to_markdown().split("\n\n")
    assert machine == "2026-11-26; a processor (avx2); 2 cores; batch 256; 4 steps per call; XLA off; tensorflow 2.21.0"
    assert rows.splitlines() == [
        "| row  | images/s | spread | MB/s | CPU us/image | what it is |",
        "| ---- | -------: | -----: | ---: | -----------: | ---------- |",
        "| fast |      200 |   100% |  200 |            2 | a gather   |",
        "| slow |       75 |    67% |      |          200 | a loop     |",
    ]
    assert ratios.splitlines()[2] == "| fast / slow |   2.50 | 2.00, 3.00 |"
    assert diagnosis == "it is fast"


def test_description_names_data_versions_and_the_settings_that_all_plans_share(digits, tmp_path):
    devices = make_devices("mirrored", 2)
    plans = [
        make_run_plan(
            TrainConfig(data=digits, run_dir=tmp_path, batch_size=16, steps_per_call=steps),
            load_manifest(digits),
            devices,
        )
        for steps in (1, 4)
    ]
    machine = describe_machine(plans, devices)
    assert json.loads(json.dumps(machine)) == machine
    assert (machine["num_examples"], machine["image_shape"]) == (203, [8, 8, 1])
    assert (machine["batch_size"], machine["xla"], machine["replicas"]) == (16, "off", 2)
    assert machine["versions"].keys() == {"python", "tensorflow", "keras", "numpy"}
    assert "steps_per_call" not in machine
    assert "steps_per_call" in describe_machine(plans[:1], devices)
