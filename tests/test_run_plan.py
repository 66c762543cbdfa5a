import dataclasses
import json
import pathlib

import pytest
from msgspec.structs import replace

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.train import run_plan
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from tests.helpers.small_run import stored_run

LARGE = 2**40


@pytest.fixture
def make_run_plan(digits):
    """Plan with these settings on the digits, whose manifest `change` may alter first."""

    def plan(change=unchanged, earlier=None, **settings):
        config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), **settings)
        devices = make_devices(config.strategy, config.devices)
        return run_plan.make_run_plan(config, change(load_manifest(digits)), devices, earlier)

    return plan


def without_labels(manifest):
    train = replace(manifest.split("train"), class_counts=())
    return replace(manifest, splits={**manifest.splits, "train": train})


def with_rows(num_examples):
    def change(manifest):
        train = replace(manifest.split("train"), num_examples=num_examples)
        return replace(manifest, splits={**manifest.splits, "train": train})

    return change


def unchanged(manifest):
    return manifest


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (without_labels, {}, "the split 'train' has no labels"),
        (lambda m: replace(m, class_names=("7",)), {}, "every label is 7; a classifier needs two classes"),
        (lambda m: replace(m, splits={}), {}, "no split 'train'"),
        (with_rows(2**31), {}, "2,147,483,648 rows to train on, more than 2,147,483,647"),
        (unchanged, {"devices": 4, "batch_size": 30}, "--batch-size 30 does not divide among 4 replicas; use 28"),
        (unchanged, {"feed": "host", "memory_budget": 1000}, "^feed host: .* use feed stream"),
        (
            unchanged,
            {"batch_size": 2_000_000_000, "memory_budget": 1 << 30},
            "--batch-size 2000000000: 8 calls of 1 step take .* GiB, over the .* of 1.0 GiB; use a smaller one$",
        ),
    ],
    ids=[
        "no labels",
        "one class",
        "no split",
        "too many rows",
        "uneven batch",
        "too large to hold",
        "batches too large",
    ],
)
def test_what_cannot_be_trained_on_is_refused(make_run_plan, change, settings, message):
    with pytest.raises(InputError, match=message):
        make_run_plan(change, **settings)


def test_a_table_of_bytes_cannot_go_to_other_workers(digits):
    config = TrainConfig(data=digits, run_dir=pathlib.Path("run"), feed="device")
    several = dataclasses.replace(make_devices(), num_workers=2)
    with pytest.raises(InputError, match="--feed device: .* use --feed host"):
        run_plan.make_run_plan(config, load_manifest(digits), several)


def test_identity_has_what_changes_the_weights_and_nothing_else(make_run_plan):
    usual = make_run_plan(schedule="constant").identity("net")
    for settings in ({"devices": 4, "strategy": "mirrored"}, {"recover": 5}, {"epochs": 7}, {"feed": "host"}):
        assert make_run_plan(**{"schedule": "constant", **settings}).identity("net") == usual
    changes = {"batch_size": 128, "seed": 1, "learning_rate": 0.5, "precision": "mixed_float16", "feed": "stream"}
    for name, value in {**changes, "xla": True, "normalization": "standard", "schedule": "cosine"}.items():
        assert make_run_plan(**{"schedule": "constant", name: value}).identity("net").differences(usual), name
    assert make_run_plan(epochs=7).identity("net").differences(make_run_plan().identity("net"))


def test_the_description_is_plain_json(make_run_plan):
    plan = make_run_plan(normalization="standard")
    described = plan.describe(make_devices())
    assert json.loads(json.dumps(described))["data"]["class_names"] == ["0", "1", "2"]
    shared = plan.shared_settings(plan.identity("net"))
    json.dumps(shared)
    assert {"patience", "audit", "learning_rate", "data"} <= set(shared)
    assert not {"run_dir", "log_json"} & set(shared)


@pytest.mark.parametrize(
    "settings", [{}, {"feed": "stream"}, {"memory_budget": 1 << 20}], ids=["host", "stream", "auto"]
)
@pytest.mark.parametrize("budget", [1 << 14, LARGE], ids=["less memory", "more memory"])
def test_a_second_start_takes_what_the_first_one_chose(make_run_plan, monkeypatch, settings, budget):
    first = make_run_plan(**settings)
    monkeypatch.setattr(run_plan, "default_memory_budget", lambda: budget)
    monkeypatch.setattr(run_plan, "choose_precision", lambda *_: "mixed_float16")
    monkeypatch.setattr(run_plan, "default_steps_per_call", lambda *_: 1)
    second = make_run_plan(
        earlier=stored_run(first), **{"feed": "auto"} if "memory_budget" not in settings else settings
    )
    assert second.identity("net") == first.identity("net")
    assert (second.feed_plan.feed, second.feed_plan.budget) == (first.feed_plan.feed, first.feed_plan.budget)


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [(6, None, 6), (6, 6, 6), (5, 6, 5), (6, 5, 5), (6, 8, 7)],
    ids=["none given", "the same", "rounded to the same", "an even number", "rounded to an even number"],
)
def test_calls_keep_their_length_unless_another_is_given(make_run_plan, stored, given, expected):
    first = make_run_plan(batch_size=16)  # 13 steps
    first = dataclasses.replace(first, steps=dataclasses.replace(first.steps, steps_per_call=stored))
    plan = make_run_plan(earlier=stored_run(first), batch_size=16, steps_per_call=given)
    assert plan.steps.steps_per_call == expected


def test_a_call_is_never_longer_than_an_epoch_and_calls_are_even(make_run_plan):
    assert make_run_plan(batch_size=100, steps_per_call=50).steps.steps_per_call == 3
    assert make_run_plan(batch_size=8, steps_per_call=16).steps.steps_per_call == 13  # of 26 steps


@pytest.mark.parametrize(
    ("accelerator", "batch_bytes", "expected"),
    [
        ("GPU", 256 * 784, 16),
        ("GPU", 256 * 224 * 224 * 3, 1),
        ("CPU", 256 * 784, 4),
        ("CPU", 8 * 784, 16),
        ("CPU", 256 * 64 * 64 * 3, 1),
    ],
    ids=["an accelerator", "large images on one", "the default batch", "a small batch", "a large one"],
)
def test_a_call_is_as_long_as_its_batches_allow(accelerator, batch_bytes, expected):
    assert run_plan.default_steps_per_call(accelerator, batch_bytes) == expected
