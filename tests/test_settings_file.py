"""Settings from files, and which of file, option and recipe wins."""

import json
import pathlib

import numpy as np
import pytest

from pipeline.convert.config import ConvertConfig
from pipeline.errors import InputError
from pipeline.remote import as_path
from pipeline.train.config import TrainConfig
from pipeline.train.settings_file import read_settings, typed_settings
from train import parse_config

TOML = """
data = "data/mine"
recipe = "fast"
epochs = 3
learning-rate = 1
memory_budget = "2GiB"
audit = true
callback = ["keras.callbacks:TerminateOnNaN"]
"""


def write(path, text):
    path.write_text(text)
    return path


def test_options_win_over_the_file_and_the_file_over_its_recipe(tmp_path):
    path = str(write(tmp_path / "run.toml", TOML))
    config = parse_config(["--config", path, "--epochs", "5", "--callback", "keras.callbacks:CSVLogger,filename=x.csv"])
    assert (config.model, config.momentum, config.learning_rate, config.memory_budget) == ("fast", 0.7, 1.0, 2 << 30)
    assert (config.data, config.run_dir, config.audit) == (pathlib.Path("data/mine"), pathlib.Path("runs/mine"), True)
    assert (config.epochs, config.callback) == (5, ("keras.callbacks:CSVLogger,filename=x.csv",))
    assert parse_config(["--config", path, "--recipe", "best", "--data", "d"]).model == "residual"


def test_the_config_of_a_run_repeats_it(tmp_path):
    settings = {"data": "d", "run_dir": "r", "model": "fast", "epochs": 4, "patience": None, "of_a_newer_version": 1}
    path = write(tmp_path / "config.json", json.dumps({"settings": settings, "identity": {}}))
    expected = TrainConfig(data=pathlib.Path("d"), run_dir=pathlib.Path("r"), model="fast", epochs=4)
    assert parse_config(["--config", str(path)]) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epoch = 3", "a.toml: epoch is not a setting of a training; did you mean epochs"),
        ("a.toml", "zzz = 3", "a.toml: zzz is not a setting of a training$"),
        ("a.toml", 'epochs = "3"', "a.toml: epochs: Expected `int`, got `str`"),
        ("a.toml", "data = 3", "a.toml: data: Expected `str`, got `int`"),
        ("a.toml", 'memory_budget = "much"', "a.toml: memory_budget: 'much' is not a size"),
        ("a.toml", "epochs = ?", "a.toml: not the settings of a training .*line 1"),
        ("a.toml", "epochs = 0", "--epochs 0: it must be at least 1"),
        ("a.json", "[1]", "a.json: not the settings of a training .*Expected `object`, got `array`"),
        ("a.json", "{", "a.json: not the settings of a training .*truncated"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(InputError, match=message):
        parse_config(["--run-dir", "r", "--config", str(path)])


def test_a_recipe_can_be_toml(tmp_path):
    path = write(tmp_path / "mine.toml", 'model = "fast"\nlearning_rate = 1\n')
    config = parse_config(["--data", "d", "--recipe", str(path)])
    assert (config.model, config.learning_rate, config.ema) == ("fast", 1.0, 0.998)


def test_values_that_are_null_count_as_not_given(tmp_path):
    assert read_settings(write(tmp_path / "a.json", '{"patience": null}'), TrainConfig, "a training") == {}


def test_a_program_gives_paths_and_numbers_of_numpy():
    given = {
        "data": pathlib.Path("d"),
        "epochs": np.int64(3),
        "ema": np.float32(0.5),
        "callback": ["a:b"],
        "folds": None,
    }
    settings = typed_settings(given, TrainConfig, "a training")
    assert settings == {"data": pathlib.Path("d"), "epochs": 3, "ema": 0.5, "callback": ("a:b",)}


@pytest.mark.parametrize("kind", [str, as_path])
def test_paths_may_be_in_object_stores(kind):
    url = kind("memory://bucket/x")
    settings = typed_settings({"splits": (("train", url),), "out": url}, ConvertConfig, "a conversion")
    assert settings == {"splits": [("train", as_path("memory://bucket/x"))], "out": as_path("memory://bucket/x")}
    with pytest.raises(InputError, match="splits: s3:/bucket/x: not a URL; give it as text"):
        typed_settings({"splits": (("train", pathlib.Path("s3://bucket/x")),)}, ConvertConfig, "a conversion")
