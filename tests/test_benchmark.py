"""The benchmark's figures; `python -m pytest -m bench` prints its short form on the sample data's images."""

import json

import matplotlib.image
import numpy as np
import pytest

from pipeline.benchmark import rivals
from pipeline.benchmark.host_cost import StepClock
from pipeline.benchmark.plots import plot
from pipeline.benchmark.results import Results, Row, ratio_of
from pipeline.benchmark.suite import lines_of_all
from pipeline.benchmark.throughput import DATASET, FEED, STEP, TRAIN
from pipeline.convert.converter import ConvertConfig, convert
from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.sample import write_sample_csv
from pipeline.train.meter import Rates
from tests.helpers.benchmarks import run
from tools import benchmark

SHORTER = {f"host {dtype}, {calls}" for dtype in ("uint8", "float32") for calls in ("13 steps a call", "1 step a call")}
OURS = {"read", "parse", "order", "host uint8", "host float32", "distribute", "device indices"} | {
    *("stream uint8", "stream float32"),
    *("numpy uint8", "numpy float32", "memcpy"),
}
RECIPES = {"textbook float32", "textbook cached uint8", "textbook cached float32", "keras arrays"}
SHORT = ["--rounds", "2", "--seconds", "0.05", "--batch-size", "16"]


@pytest.mark.parametrize(
    ("rounds", "median", "unstable"),
    [((4.0, 6.0, 8.0), 3.0, False), ((2.0, 8.0, 20.0), 4.0, True)],
    ids=["close together", "further apart than the ratio"],
)
def test_a_ratio_is_taken_round_by_round(rounds, median, unstable):
    ratio = ratio_of(Row("high", "", Rates(rounds)), Row("low", "", Rates((2.0,) * 3)))
    assert (ratio.median, ratio.unstable) == (median, unstable)


def test_json_has_every_round_with_the_machine():
    row = Row("gather", "of a batch", Rates((100.0, 300.0), (1e-6, 3e-6)), bytes_per_image=784)
    found = json.loads(Results("feed", [row], {"processor": "a test"}).to_json())
    assert found["machine"] == {"processor": "a test"}
    assert found["rows"] == [
        {
            "name": "gather",
            "note": "of a batch",
            "group": "ours",
            "images_per_second": 200.0,
            "spread": 1.0,
            "rounds": [100.0, 300.0],
            "bytes_per_second": 200.0 * 784,
            "cpu_microseconds_per_image": pytest.approx(2.0),
        }
    ]


@pytest.mark.parametrize("rates", [(2.0, 3.0), (2.0, 3000.0)], ids=["linear", "logarithmic"])
def test_the_figure_shows_every_row_that_counts_the_same(tmp_path, rates):
    groups = ("ours", "others")
    rows = [Row(f"row {n}", "", Rates((n, n + 1)), group=group) for n, group in zip(rates, groups, strict=True)]
    rows.append(Row("matmul", "", Rates((1e9, 2e9)), unit="flop", group="limit"))
    machine = {"processor": "a test", "cores": 2, "batch_size": 8}
    plot(Results("feed", rows, machine), tmp_path / "rows.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "rows.png").shape
    assert width > 7 * 120 and height == int(120 * (1.3 + 2 * 0.26))


def test_train_measures_the_feed_the_step_and_both(digits, tmp_path, capsys):
    found = run(tmp_path, "train", "--data", digits, "--devices", "2", *SHORT)
    assert [row["name"] for row in found["rows"]] == [DATASET, FEED, STEP, TRAIN]
    assert all(row["images_per_second"] > 0 for row in found["rows"])
    assert found["ratios"][0]["ratio"] > 0
    assert found["figures"]["accelerator utilisation"] == pytest.approx(found["ratios"][0]["ratio"])
    assert found["machine"]["replicas"] == 2
    assert found["verdict"] in capsys.readouterr().out


def test_step_measures_each_setting_against_the_peak(digits, tmp_path, capsys):
    settings = "--batch-size 16 --precision float32 --steps-per-call 1,2 --rounds 2 --seconds 0.05"
    found = run(tmp_path, "step", "--data", digits, *settings.split())
    assert [row["name"] for row in found["rows"]] == ["1 step a call", "2 steps a call", "matmul float32"]
    row, peak = found["rows"][0], found["machine"]["peaks"]["float32"]["flops_per_second"]
    # 8x8 pixels: convolutions on 8x8 and 4x4, then 2*2*64 -> 256 -> 3.
    forward = 2 * (25 * 32 * 64 + 25 * 32 * 32 * 64 + 9 * 32 * 64 * 16 + 9 * 64 * 64 * 16 + 256 * 256 + 256 * 3)
    assert row["flops_per_second"] == pytest.approx(3 * forward * row["images_per_second"])
    assert row["share_of_peak"] == pytest.approx(row["flops_per_second"] / peak)
    assert peak == max(found["rows"][-1]["rounds"])
    fastest = max(found["rows"][:-1], key=lambda row: row["images_per_second"])
    assert f"fastest: {fastest['images_per_second']:,.0f} images/s" in capsys.readouterr().out


def test_step_measures_a_step_that_xla_compiled(digits, tmp_path):
    settings = "--batch-size 16 --precision float32 --steps-per-call 1 --xla on --rounds 1 --seconds 0.05"
    found = run(tmp_path, "step", "--data", digits, *settings.split())
    assert found["rows"][0]["name"] == "batch 16, float32, 1 step a call, XLA"
    assert found["machine"]["xla"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps-per-call", "1,many"], "'1,many' is not a number, nor several with commas between"),
        (["--precision", "float32,int8"], "--precision 'int8': choose one of"),
        (["--steps-per-call", "4,0"], "--steps-per-call 0: it must be at least 1"),
        (["--batch-size", "16,15", "--devices", "2"], "--batch-size 15 does not divide among 2 replicas"),
        (["--xla", "both", "--devices", "2"], "--xla compiles the step of one replica"),
    ],
    ids=["a word for a number", "no precision", "no steps", "uneven batch", "XLA on two replicas"],
)
def test_step_refuses_what_it_cannot_measure_before_it_says_anything(digits, flags, message, capsys):
    with pytest.raises(InputError, match=message):
        benchmark.main(["step", "--data", str(digits), *flags])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["convert", "--csv", "absent.csv", "--rounds", "0"], "^--rounds 0: it must be at least 1$"),
        (["host", "--seconds", "nan"], "^--seconds nan: it must be above 0 and below 3600$"),
    ],
)
def test_a_measurement_of_no_length_is_refused(command, message):
    with pytest.raises(InputError, match=message):
        benchmark.main(command)


def test_feed_measures_every_rung_beside_other_recipes(digits, tmp_path):
    found = run(tmp_path, "feed", "--data", digits, *SHORT, "--batch-size", "4", "--steps-per-call", "64")
    rows = {row["name"]: row for row in found["rows"]}
    assert rows.keys() >= OURS | SHORTER | RECIPES
    assert all(row["images_per_second"] > 0 for row in rows.values())
    assert [ratio["above"] for ratio in found["ratios"]] == [
        *["host float32"] * 2,
        *["host float32, 13 steps a call"] * 2,  # 51 steps in as few calls of at most 16 as hold them
        *["host float32, 1 step a call"] * 2,
        *["host uint8"] * 3,
        *["host uint8, 13 steps a call"] * 3,
        *["host uint8, 1 step a call"] * 3,
        "stream float32",
    ]
    first, imported = (found["figures"][f"{what}, seconds"] for what in ("first batch", "import tensorflow"))
    assert 0 < first < imported  # each in a process that had nothing imported


def test_feed_can_leave_the_recipes_out(digits, tmp_path):
    found = run(tmp_path, "feed", "--data", digits, "--no-rivals", "--steps-per-call", "1", *SHORT)
    assert {row["name"] for row in found["rows"]} == OURS


def test_host_measures_our_loop_beside_fit(tmp_path):
    found = run(tmp_path, "host", "--rounds", "2", "--seconds", "0.1")
    names = [
        *("fit, 1 replica", "ours, 1 replica, 1 step a call", "ours, 1 replica, 16 steps a call"),
        *("fit, 2 replicas", "ours, 2 replicas, 1 step a call", "ours, 2 replicas, 16 steps a call"),
    ]
    assert [row["name"] for row in found["rows"]] == names
    fit, ours = found["rows"][0], found["rows"][1]
    ratio = found["ratios"][0]
    assert ratio["below"] == fit["name"] and ratio["above"].endswith(ours["name"])
    assert ratio["rounds"] == [high / low for high, low in zip(fit["rounds"], ours["rounds"], strict=True)]


def test_the_clock_of_steps_leaves_out_the_first_call():
    clock = StepClock()
    for batch in (0, 16, 32, 48):
        clock.on_train_batch_begin(batch)
    assert clock.meter.images == 32


def test_all_are_command_lines_of_their_own(tmp_path):
    data = tmp_path / "data of mine"
    lines = lines_of_all(data, tmp_path / "train.csv", tmp_path, rows=70_000, seconds=0.5)
    parsed = {line[-1]: vars(benchmark.make_parser("").parse_args(line)) for line in lines}
    names = "feed_2048", "feed_256", "scale", "handover", "step", "host", "train", "memory", "convert", "article"
    assert list(parsed) == [str(tmp_path / f"{name}.json") for name in names]
    assert len(lines_of_all(data, None, tmp_path, rows=70_000, seconds=0.5)) == len(names) - 2
    for found in (parsed[str(tmp_path / f"{name}.json")] for name in names[:-2]):
        assert found.get("data", data) == data
        assert (found.get("rows", 70_000), found.get("seconds", 0.5)) == (70_000, 0.5)


@pytest.mark.parametrize("flag", ["--json", "--plot"])
def test_a_directory_for_a_file_is_refused_before_anything_is_measured(tmp_path, flag):
    # The data set is missing too: that would be said first if the measuring had begun.
    with pytest.raises(InputError, match=f"{flag} {tmp_path}: it is a directory; give a file"):
        benchmark.main(["feed", "--data", str(tmp_path / "absent"), flag, str(tmp_path)])


def test_all_wants_a_directory(tmp_path):
    with pytest.raises(InputError, match="no such directory; create it first"):
        benchmark.main(["all", "--data", str(tmp_path), "--out", str(tmp_path / "absent")])


def test_all_stops_at_what_fails(tmp_path, capfd):
    assert benchmark.main(["all", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "no manifest.json here" in capfd.readouterr().err


def pluralize(images):
    """The different images, and how often each is there."""
    return np.unique(images, axis=0, return_counts=True)


@pytest.mark.parametrize("recipe", ["uncached", "cached", "arrays"])
def test_a_rival_serves_every_image_of_an_epoch_once(digits, recipe):
    arrays = load_split(digits, load_manifest(digits), "train")
    paths = sorted(str(path) for path in digits.glob("*train*"))
    if recipe == "arrays":
        dataset = rivals.keras_arrays(arrays, batch_size=7)
    else:
        dataset = rivals.textbook(paths, 64, 7, "uint8", cached=recipe == "cached")
    served = np.concatenate([image.numpy() for image, _ in dataset.take(203 // 7)])
    for found, expected in zip(pluralize(served), pluralize(arrays.images), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.bench
def test_images_per_second(tmp_path, capsys):
    write_sample_csv(tmp_path / "train.csv", 4000, 0)
    convert(ConvertConfig(splits=(("train", tmp_path / "train.csv"),), out=tmp_path / "sample"))
    with capsys.disabled():
        print()
        feed = run(tmp_path, "feed", "--data", tmp_path / "sample", "--rounds", "3", "--steps-per-call", "4")
        train = run(tmp_path, "train", "--data", tmp_path / "sample", "--rounds", "3")
    assert len(feed["rows"]) > len(train["rows"]) == 4
