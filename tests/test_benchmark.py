"""`python -m pytest -m bench`: the short form of tools/benchmark.py on the sample data's images."""

import json

import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.measure.throughput import FEED, STEP, TRAIN, Throughput
from pipeline.sample import write_sample_csv
from pipeline.train.meter import Rates
from tools import benchmark

MACHINE = {"processor": "a test"}


def throughput(feed, step, train):
    return Throughput({FEED: Rates((feed,)), STEP: Rates((step,)), TRAIN: Rates((train,))}, MACHINE)


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ((5000.0, 1000.0, 990.0), "compute-bound: the devices compute 99% of the time"),
        ((500.0, 1000.0, 400.0), "input-bound"),
        ((5000.0, 1000.0, 400.0), "bound by the host's loop"),
    ],
    ids=["the step is slower", "the feed is slower", "neither"],
)
def test_the_verdict_compares_training_with_the_step_alone(rates, verdict):
    assert throughput(*rates).verdict.startswith(verdict)


def test_json_has_every_rate_with_its_machine():
    found = json.loads(throughput(500.0, 1000.0, 400.0).to_json())
    assert found["rates"][TRAIN] == {"images_per_second": 400.0, "spread": 0.0, "rounds": [400.0]}
    assert (found["utilisation"], found["machine"]) == (0.4, MACHINE)


def test_the_tool_measures_a_small_data_set(digits, tmp_path, capsys):
    path = tmp_path / "figures.json"
    options = ["--rounds", "1", "--seconds", "0.1", "--batch-size", "16", "--devices", "2", "--json", str(path)]
    assert benchmark.main(["--data", str(digits), *options]) == 0
    found = json.loads(path.read_text())
    assert all(found["rates"][kind]["images_per_second"] > 0 for kind in (FEED, STEP, TRAIN))
    assert found["machine"]["replicas"] == 2
    assert "feed and step" in capsys.readouterr().out


@pytest.mark.bench
def test_images_per_second(tmp_path, capsys):
    write_sample_csv(tmp_path / "train.csv", 4000, 0)
    convert(ConvertConfig(splits=(("train", tmp_path / "train.csv"),), out=tmp_path / "sample"))
    path = tmp_path / "figures.json"
    with capsys.disabled():
        print()
        assert benchmark.main(["--data", str(tmp_path / "sample"), "--rounds", "3", "--json", str(path)]) == 0
        print(path.read_text())
    assert set(json.loads(path.read_text())["rates"]) == {FEED, STEP, TRAIN}
