import json
import pathlib

import keras
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.progress import StopRequested
from pipeline.train.recipe import RECIPES, Recipe, read_recipe
from tests.helpers.small_run import SmallRun, StopAfter, assert_same_weights, without_times
from tests.helpers.steps import Steps
from train import parse_config

RESIDUAL = "residual,width=4,pairs=0"
# All that a recipe can turn on, in a small network.
EVERYTHING = {
    **{"model": RESIDUAL, "augment": "digits", "optimizer": "adamw", "schedule": "one-cycle"},
    **{"label_smoothing": 0.1, "class_weights": "balanced", "clip_norm": 1.0, "ema": 0.9, "learning_rate": 1e-3},
}


@pytest.fixture
def start(digits, tmp_path):
    def make(name="run", **settings):
        return SmallRun(digits, tmp_path / name, **{**EVERYTHING, "epochs": 2, **settings})

    return make


@pytest.mark.parametrize(("model", "devices"), [("tutorial", 2), ("fast", 2), (RESIDUAL, 2), (RESIDUAL, 4)])
def test_replicas_agree_after_fifteen_steps(digits, model, devices):
    # SGD, because Adam divides a gradient that should be 0 by its own size.
    settings = {**EVERYTHING, "model": model, "optimizer": "sgd", "schedule": "constant"}
    single, several = (Steps(digits, make_devices("mirrored", count), **settings) for count in (1, devices))
    assert single.plan.steps.padding  # of step 13
    np.testing.assert_allclose(several.train(calls=3), single.train(calls=3), atol=1e-5)
    for weights, expected in zip(several.weights(), single.weights(), strict=True):
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_a_stopped_run_ends_with_the_same_bits(start):
    whole = start("whole")
    expected = whole.fit().history
    run, stopper = start("stopped"), StopAfter(1)
    with pytest.raises(StopRequested):
        run.fit([stopper], stopper.signal)
    last = start("stopped")
    assert without_times(last.fit().history) == without_times(expected)
    assert_same_weights(whole, last)


def keras_layers(image_shape, num_classes, dtype="float32", layer_types=None):
    """A user's own network, with Keras's layers that have state."""
    inputs = keras.Input(image_shape)
    x = keras.layers.Dense(8)(keras.layers.Flatten()(inputs))
    x = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(num_classes, name="logits")(x)))


def test_state_of_keras_layers_is_kept_and_averaged_over_replicas(start):
    # 192 rows, 12 batches without padding, which Keras's normalization would count.
    settings = {
        "model": f"{__name__}:keras_layers",
        "strategy": "mirrored",
        "devices": 2,
        "ema": 0.0,
        "holdout": "last:11",
    }
    whole, stopped, stopper = start("whole", **settings), start("stopped", **settings), StopAfter(1)
    expected = whole.fit().history
    with pytest.raises(StopRequested):
        stopped.fit([stopper], stopper.signal)
    resumed = start("stopped", **settings)
    assert without_times(resumed.fit().history) == without_times(expected)
    assert_same_weights(whole, resumed)
    mean = next(weight for weight in whole.model.weights if weight.name == "moving_mean").value
    first, second = whole.devices.strategy.experimental_local_results(mean)
    np.testing.assert_array_equal(first, second)


def test_xla_trains_with_all_of_a_recipe(start):
    # Dropout off, whose masks XLA draws otherwise.
    settings = {"model": f"{RESIDUAL},dropout=0", "epochs": 1, "optimizer": "sgd"}
    plain, compiled = start("plain", **settings), start("xla", xla=True, **settings)
    plain.fit()
    compiled.fit()
    assert_same_weights(plain, compiled, tolerance=1e-4)


def test_the_average_of_weights_takes_their_place_for_a_while(start):
    run = start(ema=1e-9, epochs=1)  # an average with so little momentum is the last weights
    run.fit()
    raw, weights = run.variables(), [np.asarray(variable) for variable in run.model.trainable_variables]
    statistics = [np.asarray(variable) for variable in run.model.non_trainable_variables]
    with run.trainer.averaged_weights():
        for before, averaged in zip(weights, run.model.trainable_variables, strict=True):
            np.testing.assert_allclose(averaged, before, rtol=1e-6, atol=1e-7)
        collected = [np.asarray(variable) for variable in run.model.non_trainable_variables]
        assert any((a != b).any() for a, b in zip(statistics, collected, strict=True))
    for before, after in zip(raw, run.variables(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_recipe_sets_what_no_option_does():
    config = parse_config(["--data", "d", "--recipe", "fast", "--epochs", "3"])
    assert (config.model, config.optimizer, config.epochs, config.batch_size) == ("fast", "adam", 3, 256)
    assert parse_config(["--data", "d"]) == TrainConfig(data=pathlib.Path("d"), run_dir=pathlib.Path("runs/d"))


def test_the_keras_tutorial_can_be_reproduced():
    config = parse_config(["--data", "d", "--recipe", "tutorial"])
    assert (config.epochs, config.batch_size, config.peak_learning_rate, config.schedule) == (6, 32, 1e-3, "constant")
    assert (config.model, config.augment, config.optimizer, config.ema) == ("tutorial", "none", "adam", 0)


def test_a_recipe_is_read_from_a_file_or_a_runs_config(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model": "fast", "learning_rate": 1, "ema": 0}))
    assert read_recipe(str(path)) == {"model": "fast", "learning_rate": 1.0, "ema": 0.0}
    path.write_text(json.dumps({"settings": {"epochs": 4, "data": "x", "feed": "host"}, "identity": {}}))
    assert read_recipe(str(path)) == {"epochs": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epoch": 3}', "epoch is not a setting of a recipe; did you mean epochs"),
        ('{"epochs": "3"}', "epochs: Expected `int`, got `str`"),
        ('{"epochs": 0}', "--epochs 0: it must be at least 1"),
        ("[1]", "Expected `object`, got `array`"),
        ("{", "truncated"),
    ],
)
def test_an_invalid_recipe_file_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(str(path))


def test_a_recipe_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="--recipe best9: choose one of tutorial, fast, best, or name a TOML"):
        read_recipe("best9")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet"}, "--model resnet: choose one of tutorial, fast, residual"),
        ({"augment": "cats"}, "--augment 'cats': give one of auto, none, digits, photos"),
        ({"ema": 1.0}, "--ema 1.0: it must be below 1"),
        ({"clip_norm": 0.0}, "--clip-norm 0.0: it must be a number above 0"),
        ({"optimizer": "lion"}, "--optimizer 'lion': choose one of adam, adamw, sgd"),
    ],
)
def test_invalid_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


def test_every_recipe_is_valid():
    assert [Recipe(**settings).epochs > 0 for settings in RECIPES.values()] == [True] * 3
