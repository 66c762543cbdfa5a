"""Trainings that hold rows out: these are never trained on, and the figures are those of an independent computation."""

import json

import keras
import numpy as np
import pytest
from msgspec.structs import replace

import train
from pipeline.errors import InputError
from pipeline.feed.holdout import Holdout, load_rows
from pipeline.feed.resident import load_split
from pipeline.format.manifest import Validation, load_manifest
from pipeline.train import run_plan
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from tests.helpers.small_run import SmallRun, stored_run

ROWS = 203  # of the digits' split train


def digits_split(digits, name="train"):
    return load_split(digits, load_manifest(digits), name)


@pytest.mark.parametrize(
    ("settings", "held"),
    [
        ({"holdout": "first:60"}, range(60)),
        ({"holdout": "last:60", "feed": "device"}, range(143, 203)),
        ({"holdout": "first:60", "strategy": "mirrored", "devices": 2, "scale": "host"}, range(60)),
    ],
    ids=["host feed", "device feed", "2 replicas"],
)
def test_rows_held_out_are_never_trained_on(digits, tmp_path, settings, held):
    run = SmallRun(digits, tmp_path / "run", epochs=2, **settings)
    history = run.fit().history
    # The audit has counted each row of the feed once, so these are the rows trained on.
    ids = run.trainer._feeds.read_ids(np.arange(run.plan.steps.num_examples))
    assert run.events("audit")[-1] == {"epoch": 2, "complete": True, "examples": ROWS - len(held)}
    arrays = digits_split(digits)
    assert ids.tolist() == np.delete(arrays.ids, held).tolist()
    images = arrays.images[list(held)].reshape(-1, 8, 8, 1) / np.float32(255)
    predicted = run.model.predict(images, verbose=0).argmax(axis=1)
    assert history[-1]["val_accuracy"] == pytest.approx((predicted == arrays.labels[list(held)]).mean())


def test_the_final_run_trains_on_the_validation_split_too(digits, tmp_path):
    run = SmallRun(digits, tmp_path / "run", epochs=1, final=True)
    assert "val_accuracy" not in run.fit().history[0]
    assert run.events("audit") == [{"epoch": 1, "complete": True, "examples": ROWS + 50}]
    ids = np.concatenate([digits_split(digits).ids, digits_split(digits, "val").ids])
    assert run.trainer._feeds.read_ids(np.arange(ROWS + 50)).tolist() == ids.tolist()


def test_no_validation_but_the_split_stays_out_of_training(digits, tmp_path):
    run = SmallRun(digits, tmp_path / "run", epochs=1, holdout="none")
    assert "val_accuracy" not in run.fit().history[0]
    assert run.events("audit") == [{"epoch": 1, "complete": True, "examples": ROWS}]


@pytest.fixture
def plan(digits):
    """Plan a run of these settings on the digits, without their split val if `val` is false."""

    def make(val=True, earlier=None, **settings):
        config, manifest = TrainConfig(data=digits, run_dir=digits, **settings), load_manifest(digits)
        if not val:
            manifest = replace(manifest, splits={"train": manifest.split("train")})
        return run_plan.make_run_plan(config, manifest, make_devices(), earlier)

    return make


@pytest.mark.parametrize(
    ("settings", "rows", "identity", "line"),
    [
        ({}, 203, None, "validation: the split val, 50 rows"),
        ({"holdout": "split"}, 203, None, "validation: the split val, 50 rows"),
        ({"holdout": "none"}, 203, "none", "no validation; --holdout"),
        ({"final": True}, 253, "final", "no validation: the split val is trained on too"),
        ({"val": False}, 203, None, "no validation; --holdout random:0.1 holds out"),
        ({"val": False, "holdout": "none"}, 203, None, "no validation; --holdout"),
        ({"val": False, "final": True}, 203, None, "no validation; --holdout"),
        ({"holdout": "first:60", "group_size": 20}, 143, "first:60", "validation: first:60, 60 rows of train that"),
        (
            {"holdout": "fold:0/3", "group_size": 20},
            123,
            "fold:0/3 in groups of 20",
            "validation: fold:0/3 in groups of 20, 80 rows of train",
        ),
    ],
)
def test_the_plan_counts_and_reports_what_is_held_out(plan, settings, rows, identity, line):
    planned = plan(**settings)
    assert planned.steps.num_examples == rows
    assert planned.identity("tiny").holdout == identity
    assert any(text.startswith(line) for text in planned.announcement(make_devices()))
    assert stored_run(planned).identity.differences(planned.identity("tiny")) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val": False, "holdout": "split"}, "no labelled split 'val'; convert with --val-fraction, or use --holdout"),
        (
            {"holdout": "first:9", "feed": "stream"},
            "divides or joins splits in memory.*; omit --feed stream, or",
        ),
        ({"holdout": "first:9", "memory_budget": 9000}, "over the budget.*; raise --memory-budget, or convert with"),
        ({"final": True, "feed": "stream"}, "--final divides or joins splits in memory"),
        ({"final": True, "holdout": "none"}, "--final trains on all rows; omit --holdout none"),
        ({"holdout": "first:300"}, "203 of 203 training rows would be held out"),
        ({"holdout": "half"}, "--holdout 'half': give split, none, random:FRACTION"),
        ({"group_size": 1}, "--group-size 1: it must be at least 2"),
    ],
)
def test_what_cannot_be_held_out_is_refused(plan, settings, message):
    with pytest.raises(InputError, match=message):
        plan(**settings)


@pytest.mark.parametrize("drawn", [None, 10, 20])
def test_groups_that_the_conversion_drew_rows_from_are_refused(digits, drawn):
    manifest = replace(load_manifest(digits), validation=Validation(0.1, drawn))
    if drawn == 20:
        assert Holdout.choose("first:20", False, 20, manifest).group_size == 20
        return
    with pytest.raises(InputError, match="--group-size 20: rows were drawn.*or with --val-group-size 20"):
        Holdout.choose("first:20", False, 20, manifest)


def test_a_split_named_as_the_rows_held_out_is_refused(digits):
    manifest = load_manifest(digits)
    manifest = replace(manifest, splits={**manifest.splits, "holdout": manifest.split("val")})
    assert Holdout.choose(None, False, None, manifest).text == "split"
    with pytest.raises(InputError, match="has a split named 'holdout'.*convert it under another name"):
        Holdout.choose("first:20", False, None, manifest)


def test_the_report_has_the_rows_held_out_and_their_groups(digits, tmp_path, capsys):
    settings = ["--data", digits, "--run-dir", tmp_path / "run", "--recipe", "fast", "--batch-size", "64"]
    settings += ["--holdout", "first:60", "--group-size", "20", "--precision", "float32"]
    assert train.main([str(setting) for setting in settings]) == 0
    splits = json.loads((tmp_path / "run/evaluation.json").read_text())["splits"]
    assert {name: splits[name]["num_examples"] for name in splits} == {"train": 143, "holdout": 60, "val": 50}

    loaded = load_rows(digits, load_manifest(digits), Holdout("first:60"))
    model = keras.saving.load_model(tmp_path / "run/model.keras")
    for name, arrays in (("holdout", loaded.held), ("train", loaded.train)):
        outputs = model.predict(arrays.images.reshape(-1, 8, 8, 1), verbose=0)
        right = outputs.argmax(axis=1) == arrays.labels
        assert splits[name]["accuracy"] == pytest.approx(right.mean())
        loss = -np.log(outputs[np.arange(len(right)), arrays.labels]).mean()
        assert splits[name]["loss"] == pytest.approx(loss, rel=1e-4)
        if name == "holdout":
            accuracies = right.reshape(3, 20).mean(axis=1)
    groups = splits["holdout"]["groups"]
    assert groups["accuracies"] == pytest.approx(accuracies)
    assert (groups["mean"], groups["std"]) == pytest.approx((accuracies.mean(), np.std(accuracies, ddof=1)))
    assert groups["worst_id"] == loaded.held.ids[20 * accuracies.argmin()]
    assert f"3 groups: mean {accuracies.mean():.2%}" in capsys.readouterr().out
    assert (tmp_path / "run/figures/confusion_holdout.png").exists()
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["holdout"] == {"rows": "first:60", "num_trained": 143}
    assert config["settings"]["group_size"] == 20


def test_the_report_of_a_final_run_omits_the_split_it_trained_on(digits, tmp_path):
    settings = ["--data", digits, "--run-dir", tmp_path / "run", "--recipe", "fast", "--batch-size", "64", "--final"]
    assert train.main([str(setting) for setting in settings]) == 0
    splits = json.loads((tmp_path / "run/evaluation.json").read_text())["splits"]
    assert {name: splits[name]["split_examples"] for name in splits} == {"train": 253}
