"""The benchmark of GPUs, on logical CPUs."""

import json

import numpy as np
import pytest

from pipeline.benchmark import gpu, gpu_cases
from pipeline.benchmark.gpu import GpuBenchmark, textbook_elements
from pipeline.benchmark.gpu_cases import FLOAT32, Case, default_cases
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.gpu_monitor import GpuMonitor
from pipeline.train.run_plan import make_run_plan
from tests.helpers.fake_nvml import pynvml
from tests.helpers.faults import ROOT
from tools import benchmark

SMALL = Case(16, 4, precision=FLOAT32)


def measure(digits, out, cases, devices=1, budget=600.0, **settings):
    """The JSON that the cases leave, measured as shortly as possible."""
    manifest = load_manifest(digits)
    run = GpuBenchmark(digits, manifest, make_devices("auto", devices), out, 2, 0.02, budget, **settings)
    run.run(cases)
    return json.loads(out.read_text())


def test_the_command_measures_two_replicas_and_records_what_they_cannot_do(digits, tmp_path, capsys, monkeypatch):
    cases = [SMALL, SMALL._replace(batch_size=15), SMALL._replace(feed="host")]
    monkeypatch.setattr(gpu_cases, "default_cases", lambda: cases)
    arguments = ["--data", digits, "--out", tmp_path / "gpu.json", "--devices", 2, "--rounds", 2, "--seconds", 0.02]
    assert benchmark.main(["gpu", *map(str, arguments)]) == 0
    results = json.loads((tmp_path / "gpu.json").read_text())
    ids = ["ours_device_float32_b16_k4", "ours_host_float32_b16_k4"]
    assert [row["id"] for row in results["rows"]] == [f"{case}_{what}" for case in ids for what in ("step", "train")]
    assert list(results["cases"]) == ids
    (case, reason) = results["failed"].popitem()
    assert case.endswith("_b15_k4") and reason.startswith(
        "InputError: --batch-size 15 does not divide among 2 replicas"
    )
    out = capsys.readouterr().out
    assert f"{ids[0]}: " in out and "; utilisation " in out
    assert results["machine"]["replicas"] == 2 and results["machine"]["matmul"]["float32"] > 0


def test_counters_are_read_while_training_and_while_fitting(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "make_gpu_monitor", lambda devices: GpuMonitor(pynvml, [1]))
    monkeypatch.setattr(gpu, "_COUNTER_SECONDS", 0.6)
    results = measure(digits, tmp_path / "gpu.json", [SMALL, SMALL._replace(what="fit", steps_per_call=13)])
    assert results["failed"] == {}
    ours, fit = results["cases"].values()
    assert ours["gpu_utilisation"] == pytest.approx(0.4) and ours["gpu_memory_gib"] == 1.0
    assert fit["gpu_utilisation"] == pytest.approx(0.4)


@pytest.mark.parametrize("what", ["fit", "textbook_cached"])
def test_what_others_reach_is_measured_beside_ours(digits, tmp_path, what):
    steps = 4 if what == "fit" else 1
    results = measure(digits, tmp_path / "gpu.json", [SMALL, SMALL._replace(what=what, steps_per_call=steps)])
    assert results["failed"] == {}
    other = f"{what}_float32_b16_k{steps}"
    assert results["rows"][-1]["id"] == f"{other}_train" and results["rows"][-1]["images_per_second"] > 0
    assert results["cases"][other]["train_step_milliseconds"] > 0
    assert f" times the fastest {what.split('_')[0]} ({other}_train)" in results["diagnosis"]


def test_a_cut_run_keeps_the_rows_it_had(digits, tmp_path, capsys):
    times = iter([0.0, 0.0, *[50.0] * 3, *[100.0] * 99])
    results = measure(digits, tmp_path / "gpu.json", [SMALL, Case(8)], budget=60.0, clock=lambda: next(times))
    assert list(results["cases"]) == ["ours_device_float32_b16_k4"]
    assert "stopped before ours_device_mixed_bfloat16_b8_k16: the budget of 60 s is used up" in capsys.readouterr().out


def test_equal_settings_are_measured_once(digits, tmp_path):
    longer = [SMALL._replace(steps_per_call=steps) for steps in (13, 64)]  # an epoch has 13 steps
    assert list(measure(digits, tmp_path / "gpu.json", longer)["cases"]) == ["ours_device_float32_b16_k13"]


def test_textbook_elements_are_those_of_our_feed(digits):
    manifest, devices = load_manifest(digits), make_devices("mirrored", 2)
    config = TrainConfig(data=digits, run_dir=digits, batch_size=16, steps_per_call=1, precision=FLOAT32, feed="host")
    (element,) = textbook_elements(make_run_plan(config, manifest, devices), devices, cached=False).take(1)
    assert element["count"].numpy().tolist() == [16.0]
    arrays = load_split(digits, manifest, "train")
    known = {row.tobytes(): label for row, label in zip(arrays.images, arrays.labels, strict=True)}
    for part in element["replicas"]:
        assert part["index"].shape == (1, 8) and part["image"].dtype == np.uint8
        images, labels = part["image"].numpy()[0], part["label"].numpy()[0]
        assert [known[image.tobytes()] for image in images] == labels.tolist()


def test_the_cases_ask_for_what_no_run_measured_first_and_for_nothing_twice():
    cases = default_cases()
    assert len(set(cases)) == len(cases)
    measured = json.loads((ROOT / "docs/benchmarks/gpu_h200.json").read_text())["cases"].values()
    old = {(case["batch_size"], case["xla"], case["feed"]) for case in measured}
    new = [case for case in cases[:9] if case.what != "ours" or (case.batch_size, case.xla, case.feed) not in old]
    assert len(new) >= 4 and {case.what for case in cases[:9]} == {"ours", "fit", "textbook_cached"}
    assert {(case.batch_size, case.feed) for case in cases} == {
        (batch, feed) for batch in (256, 1024, 4096) for feed in ("device", "host")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out .", r"^\.: a directory, not a regular file"),
        ("--out new.json --budget 0", "--budget 0.0: it must be above 0 and below 86400"),
    ],
)
def test_invalid_settings_are_refused(digits, arguments, message):
    with pytest.raises(benchmark.InputError, match=message):
        benchmark.main(["gpu", "--data", str(digits), *arguments.split()])
