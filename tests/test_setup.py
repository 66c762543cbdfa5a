import dataclasses
import json
import pathlib

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.train import setup
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices

LARGE = 2**40


@pytest.fixture
def make_run_plan(digits):
    """Resolve settings on the digits, whose manifest `change` may alter first."""

    def resolved(change=lambda manifest: manifest, earlier=None, **settings):
        config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), **settings)
        devices = make_devices(config.strategy, config.devices)
        return setup.make_run_plan(config, change(load_manifest(digits)), devices, earlier)

    return resolved


def without_labels(manifest):
    train = dataclasses.replace(manifest.split("train"), class_counts=())
    return dataclasses.replace(manifest, splits={**manifest.splits, "train": train})


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (without_labels, {}, "the split 'train' has no labels"),
        (lambda m: dataclasses.replace(m, class_names=("7",)), {}, "every label is 7; a classifier needs two classes"),
        (lambda m: dataclasses.replace(m, splits={}), {}, "no split 'train'"),
        (lambda m: m, {"devices": 4, "batch_size": 30}, "--batch-size 30 does not divide among 4 replicas; use 28"),
        (lambda m: m, {"feed": "host", "memory_budget": 1000}, "--feed host: .* use --feed stream"),
        (lambda m: m, {"devices": 4, "xla": True}, "--xla compiles the step of one replica, not of 4; leave it out"),
    ],
    ids=["unlabelled", "one class", "no train split", "uneven batch", "too large for memory", "XLA on 4 replicas"],
)
def test_what_cannot_be_trained_on_is_refused(make_run_plan, change, settings, message):
    with pytest.raises(InputError, match=message):
        make_run_plan(change, **settings)


def test_devices_and_strategy_are_not_part_of_a_runs_identity(make_run_plan):
    one, four = make_run_plan(memory_budget=LARGE), make_run_plan(devices=4, strategy="mirrored", memory_budget=LARGE)
    assert one.identity() == four.identity()


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 128},
        {"seed": 1},
        {"learning_rate": 0.5},
        {"precision": "mixed_float16"},
        {"epochs": 7},
        {"feed": "stream"},
        {"xla": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_changes_the_weights_is_part_of_it(make_run_plan, settings):
    assert make_run_plan(**settings).identity() != make_run_plan().identity()


def test_epochs_may_grow_where_the_rate_is_constant(make_run_plan):
    assert make_run_plan(schedule="constant", epochs=7).identity() == make_run_plan(schedule="constant").identity()


def test_the_configuration_is_plain_json(make_run_plan):
    resolved = make_run_plan(normalization="standard")
    model, _ = setup.make_model(resolved, make_devices())
    described = resolved.describe(make_devices(), model)
    described = json.loads(json.dumps(described))
    assert "parameters" in described["identity"]["network"]
    assert described["data"]["class_names"] == ["0", "1", "2"]
    assert len(described["normalization"]["mean"]) == 1


def test_the_twin_is_plain_and_says_the_same(make_run_plan):
    resolved = make_run_plan(precision="float32")  # "auto" is bfloat16 on some processors, and the twin never is
    model, _ = setup.make_model(resolved, make_devices())
    twin = setup.make_inference_model(model, resolved.manifest)
    images = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    assert {type(layer).__module__.split(".")[0] for layer in twin.layers} == {"keras"}
    np.testing.assert_allclose(twin(images), model(images), atol=1e-6)


def test_the_learning_rate_warms_up_and_falls(make_run_plan):
    _, optimizer = setup.make_model(make_run_plan(epochs=10, batch_size=16), make_devices())
    peak = make_run_plan(batch_size=16).config.peak_learning_rate
    rates = []
    for step in (0, 6, 65, 130):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate.numpy()) / peak)
    assert rates == pytest.approx([0.1, 1.0, 0.53, 0.01], abs=0.03)


@pytest.mark.parametrize("settings", [{}, {"feed": "stream"}], ids=["host", "stream"])
def test_a_second_start_takes_what_the_first_one_chose(make_run_plan, monkeypatch, settings):
    first = make_run_plan(**settings)
    monkeypatch.setattr(setup, "default_memory_budget", lambda: LARGE)
    assert make_run_plan(earlier=first.identity(), **settings).identity() == first.identity()


@pytest.mark.parametrize(
    ("stored", "asked", "expected"),
    [(6, None, 6), (6, 6, 6), (5, 6, 5), (6, 5, 5), (6, 8, 7)],
    ids=["nothing asked", "the same", "what comes to the same", "a number that is even", "a number made even"],
)
def test_calls_of_a_run_keep_their_length_unless_another_is_asked_for(make_run_plan, stored, asked, expected):
    earlier = {**make_run_plan(batch_size=16).identity(), "steps_per_call": stored}  # of 13 steps
    steps = make_run_plan(earlier=earlier, batch_size=16, steps_per_call=asked).steps
    assert steps.steps_per_call == expected


def test_a_table_of_bytes_cannot_go_to_other_workers(digits):
    config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), feed="device")
    several = dataclasses.replace(make_devices(), num_workers=2)
    with pytest.raises(InputError, match="--feed device: .* use --feed host"):
        setup.make_run_plan(config, load_manifest(digits), several)


def test_a_call_is_never_longer_than_an_epoch(make_run_plan):
    assert make_run_plan(batch_size=100, steps_per_call=50).steps.steps_per_call == 3


@pytest.mark.parametrize(
    ("accelerator", "batch_bytes", "expected"),
    [
        ("GPU", 256 * 784, 16),
        ("GPU", 256 * 224 * 224 * 3, 6),
        ("CPU", 256 * 784, 4),
        ("CPU", 8 * 784, 16),
        ("CPU", 256 * 64 * 64 * 3, 1),
    ],
    ids=["an accelerator", "large images on one", "the article's batch", "a small batch", "a large one"],
)
def test_a_call_is_as_long_as_its_batches_allow(accelerator, batch_bytes, expected):
    assert setup.default_steps_per_call(accelerator, batch_bytes) == expected


def test_an_epoch_is_cut_into_even_calls(make_run_plan):
    assert make_run_plan(batch_size=8, steps_per_call=16).steps.steps_per_call == 13  # of 26 steps


def test_batches_that_fill_the_memory_by_themselves_are_refused(make_run_plan):
    with pytest.raises(
        InputError,
        match="--batch-size 2000000000: 8 calls of 1 step take .* MiB, over the .* of .* MiB; use a smaller one$",
    ):
        make_run_plan(batch_size=2_000_000_000, memory_budget=1 << 30)
