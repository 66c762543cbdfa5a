"""A run that has ended, started again with more epochs, other data or other code."""

import pathlib

import keras
import msgspec
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.train.checkpoint import load_weights
from pipeline.train.resume import check_resume
from pipeline.train.run_dir import RunDirectory
from pipeline.train.stored import StoredData
from tests.helpers.datasets import bars, write_dataset
from tests.helpers.small_run import SmallRun, assert_same_weights, without_times

DIGITS = "digits (203 rows of train)"


def stored(run):
    """The run as its directory records it."""
    with RunDirectory(run.config.run_dir) as directory:
        directory.claim(run.plan.identity("n"), run.plan.describe(run.devices))
    return run


def test_more_epochs_at_a_constant_rate_are_those_of_a_longer_run(digits, tmp_path):
    whole = SmallRun(digits, tmp_path / "whole", epochs=3, schedule="constant")
    expected = whole.fit().history
    stored(SmallRun(digits, tmp_path / "run", epochs=1, schedule="constant")).fit()
    longer = stored(SmallRun(digits, tmp_path / "run", epochs=3, schedule="constant"))
    check_resume(longer.config, longer.plan.manifest)
    assert without_times(longer.fit().history) == without_times(expected)
    assert_same_weights(whole, longer)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_more_epochs_of_a_schedule_are_refused_with_the_way_on(digits, tmp_path, schedule):
    stored(SmallRun(digits, tmp_path, epochs=1, schedule=schedule))
    more = SmallRun(digits, tmp_path, epochs=2, schedule=schedule)
    message = f"a run of 1 epoch, over which --schedule {schedule} .*--weights-from {tmp_path} --run-dir {tmp_path}-2 "
    with pytest.raises(InputError, match=message):
        check_resume(more.config, more.plan.manifest)
    with pytest.raises(InputError, match="give the series another --run-dir, or --fresh$"):
        check_resume(more.config, more.plan.manifest, in_series=True)


def test_a_run_starts_from_the_weights_of_another(digits, tmp_path):
    first = SmallRun(digits, tmp_path / "first", epochs=1)
    first.fit()
    second = SmallRun(digits, tmp_path / "second", seed=1, weights_from=tmp_path / "first")
    load_weights(second.config.weights_from, second.model)
    for ours, theirs in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert second.plan.identity("n").differences(first.plan.identity("n"))["weights_from"]
    with pytest.raises(InputError, match="no checkpoints, so no weights"):
        load_weights(tmp_path, second.model)
    with pytest.raises(InputError, match="not the weights of this network .*--model"):
        load_weights(tmp_path / "first", keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


def test_other_data_is_refused_by_name_before_anything_else(digits, tmp_path):
    stored(SmallRun(digits, tmp_path / "run"))
    images, labels = bars(range(40))
    other = write_dataset(tmp_path / "other", {"train": (images, labels, np.arange(40))})
    config = SmallRun(digits, tmp_path / "run").config
    with pytest.raises(InputError, match=r"on the data set digits \(203 rows of train\), and .*\(40 rows of train\)"):
        check_resume(config, load_manifest(other))


@pytest.mark.parametrize(
    ("changes", "data", "expected"),
    [
        (
            {"data": "x"},
            StoredData("other", {"train": 5}),
            {"data": f"{DIGITS} -> other (5 rows of train)"},
        ),
        ({"data": "x"}, None, {"data": f"{DIGITS}, converted again with other content"}),
        ({"network": "9 parameters (b)"}, None, {"network": "tiny, whose code changed: 8 parameters -> 9 parameters"}),
        ({"network": "8 parameters (b)"}, None, {"network": "tiny, whose code changed: other settings of its layers"}),
        ({"network": "9 parameters (b)", "recipe": {"model": "big"}}, None, {"model": "tiny -> big"}),
    ],
)
def test_differences_name_data_and_networks_not_hashes(digits, tmp_path, changes, data, expected):
    run = stored(SmallRun(digits, tmp_path))
    with RunDirectory(tmp_path) as directory:
        earlier = directory.earlier()
    identity = msgspec.structs.replace(earlier.identity, network="8 parameters (a)", recipe={"model": "tiny"})
    earlier = msgspec.structs.replace(earlier, identity=identity)
    given = msgspec.structs.replace(identity, **changes)
    assert earlier.differences(given, data or earlier.data) == expected
    assert pathlib.Path(run.config.run_dir) == tmp_path
