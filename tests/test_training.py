import keras
import pytest

from models.tutorial import make_tutorial
from pipeline.benchmark.training import diagnose, make_matmul, training_flops
from pipeline.train.devices import make_devices
from tests.helpers.benchmarks import run


def test_feed_step_and_both_are_measured(digits, tmp_path, capsys):
    results = run(tmp_path, "train", "--data", digits, "--devices", 2, "--batch-size", 16)
    assert list(results["rows"]) == ["dataset", "feed", "step", "train"]
    assert all(row["images_per_second"] > 0 for row in results["rows"].values())
    assert results["machine"]["replicas"] == 2
    utilisation = results["ratios"][("train", "step")]["median"]
    assert f": accelerator utilisation {utilisation:.1%}" in results["diagnosis"]
    assert capsys.readouterr().out.endswith(results["diagnosis"] + "\n")


NAME = "tutorial_none_float32_b16_k1"


def test_each_step_is_measured_against_the_peak(digits, tmp_path):
    settings = ["--batch-size", 16, "--precision", "float32", "--steps-per-call", 1, 1, "--xla", "off", "on"]
    results = run(tmp_path, "step", "--data", digits, *settings)
    rows = results["rows"]
    assert list(rows) == [NAME, f"{NAME}_xla"]
    assert rows[f"{NAME}_xla"]["text"].endswith("--steps-per-call 1 --xla")
    # 8x8 pixels: convolutions on 8x8 and 4x4, then 2*2*64 -> 256 -> 3.
    forward = 2 * (25 * 32 * 64 + 25 * 32 * 32 * 64 + 9 * 32 * 64 * 16 + 9 * 64 * 64 * 16 + 256 * 256 + 256 * 3)
    assert {row["flops_per_image"] for row in rows.values()} == {3 * forward}
    assert len({row["peak_flops"] for row in rows.values()} - {0.0}) == 1
    fastest = max(rows.values(), key=lambda row: row["images_per_second"])
    assert results["diagnosis"].startswith(f"fastest: {fastest['text']}; ")
    assert {above for above, _ in results["ratios"]} == {fastest["id"]}


GPU = {"feed_kind": "host", "scale": "device", "accelerator": "GPU", "steps_per_call": 16}
CPU = {"accelerator": "CPU"}
SLOW_COPY, SLOW_FEED, IDLE = (900, 500, 1000, 0.4), (500, 500, 1000, 0.4), (6000, 5000, 1000, 0.4)


@pytest.mark.parametrize(
    ("measured", "settings", "kind", "bottleneck", "option"),
    [
        ((6000, 5000, 1000, 0.99), {}, "compute-bound", "the feed delivers 5.0 times", "tools/benchmark.py step"),
        (IDLE, {}, "host-bound", "the host's loop;", "--steps-per-call 64"),
        (IDLE, CPU, "host-bound", "on the step's own cores", "--steps-per-call 64"),
        (SLOW_COPY, {}, "input-bound", "copying batches to the devices", "--feed device"),
        (SLOW_COPY, {"feed_kind": "device"}, "input-bound", "copying batches to the devices", "--steps-per-call 64"),
        (SLOW_FEED, {}, "input-bound", "gathering batches on the host", "--feed device"),
        (SLOW_FEED, CPU, "input-bound", "gathering batches on the host", "--steps-per-call 64"),
        (SLOW_FEED, {"scale": "host"}, "input-bound", "scaling on the host", "--scale device"),
        (SLOW_FEED, {"feed_kind": "stream"}, "input-bound", "reading from disk", "larger --memory-budget"),
        (SLOW_FEED, {"feed_kind": "device"}, "input-bound", "drawing the order", "--steps-per-call 64"),
    ],
)
def test_diagnosis_names_the_bottleneck_and_the_option(measured, settings, kind, bottleneck, option):
    diagnosis = diagnose(*measured, **{**GPU, **settings})
    assert diagnosis.startswith(f"{kind}: accelerator utilisation {measured[3]:.1%}")
    assert bottleneck in diagnosis
    assert diagnosis.endswith(option)


def test_operations_of_the_network_are_as_counted_by_hand():
    # 2 * kernel * inputs * outputs * places: two convolutions on 28x28, two on 14x14, then 7*7*64 -> 256 -> 10.
    convolutions = 2 * (25 * 1 * 32 * 784 + 25 * 32 * 32 * 784 + 9 * 32 * 64 * 196 + 9 * 64 * 64 * 196)
    forward = convolutions + 2 * (3136 * 256 + 256 * 10)
    assert training_flops(make_tutorial((28, 28, 1), 10)) == 3 * forward


def test_strides_and_groups_are_counted_and_an_unknown_layer_is_named():
    inputs = keras.Input((8, 8, 4))
    known = keras.layers.Conv2D(6, 3, strides=2, groups=2, padding="same")(inputs)
    assert training_flops(keras.Model(inputs, known)) == 3 * 2 * (9 * 2 * 6) * 16
    unknown = keras.layers.Conv2DTranspose(6, 3, name="up")(inputs)
    with pytest.raises(ValueError, match="up: cannot count the operations of a Conv2DTranspose layer"):
        training_flops(keras.Model(inputs, unknown))


def test_matmul_returns_its_operations():
    assert make_matmul("float32", make_devices("one"))() == 8 * 2 * 1024**3
