import pathlib

import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.train.config import TrainConfig, check_patience, parse_bytes
from train import parse_config


def configure(**settings):
    return TrainConfig(data=pathlib.Path("d"), run_dir=pathlib.Path("r"), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs 0: it must be at least 1"),
        ({"batch_size": -4}, "--batch-size -4"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"clip_norm": float("inf")}, "--clip-norm inf: it must be a finite number"),
        ({"ema": float("nan")}, "--ema nan: it must be a finite number"),
        ({"warmup": float("nan")}, "--warmup nan: it must be a finite number"),
        ({"learning_rate": -1.0}, "--learning-rate -1.0"),
        ({"seed": -1}, "--seed -1"),
        ({"recover": -1}, "--recover -1: it must be at least 0"),
        ({"batch_size": 10**20}, "--batch-size 10+: it must be below 2,147,483,648"),
        ({"precision": "float64"}, "--precision 'float64': choose one of auto, float32"),
        ({"feed": "device", "scale": "host"}, "--scale host cannot be used with --feed device"),
    ],
)
def test_invalid_settings_are_named_with_their_values(settings, message):
    with pytest.raises(InputError, match=message):
        configure(**settings)


def test_the_learning_rate_follows_the_batch_size_unless_given():
    assert configure(optimizer="adam", batch_size=32).peak_learning_rate == 1e-3
    assert configure(optimizer="adam", batch_size=128).peak_learning_rate == 2e-3
    assert configure(batch_size=128, learning_rate=0.5).peak_learning_rate == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GiB", 4 * 2**30), ("500M", 500 * 2**20), ("1.5k", 1536), ("1e6", 10**6), ("77", 77), ("2 gb", 2**31)],
)
def test_sizes_are_parsed(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "0", "1.2.3M", "9e999", "lots"])
def test_text_that_is_not_a_size_is_refused(text):
    with pytest.raises(InputError, match="argument --memory-budget: '.*' is not a size such as 4GiB or 500MiB"):
        parse_config([f"--memory-budget={text}"])


def test_without_data_the_sample_is_trained_on_in_small_batches():
    config = parse_config([])
    assert (str(config.data), config.batch_size, config.epochs) == ("data/sample", 64, 6)
    assert str(config.run_dir) == "runs/sample"
    assert parse_config(["--epochs", "5"]).epochs == 5


def test_the_data_directory_names_the_run_directory():
    config = parse_config(["--data", "data/kannada", "--memory-budget", "1GiB"])
    assert (str(config.run_dir), config.batch_size, config.epochs) == ("runs/kannada", 256, 30)
    assert config.memory_budget == 2**30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"holdout": "final"}, "--holdout final: give --final instead"),
        ({"seed": 2**63 - 2, "seeds": 3}, "--seed 9223372036854775806 with --seeds 3: .*; give a smaller --seed"),
        ({"augment": "autos"}, "--augment 'autos': give one of auto, none, digits, photos"),
    ],
)
def test_advice_names_what_is_accepted(settings, message):
    with pytest.raises(InputError, match=message):
        configure(**settings)
    assert configure(holdout="fold:1/4", seed=2**63 - 3, seeds=3).holdout == "fold:1/4"


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"holdout": "none"}, "is trained on without validation; hold rows out with --holdout random:0.1, or omit"),
        ({"final": True}, "--final leaves no validation; omit --patience"),
    ],
)
def test_patience_needs_validation(digits, settings, advice):
    manifest = load_manifest(digits)
    with pytest.raises(InputError, match=f"^--patience 3: .*{advice}"):
        check_patience(configure(patience=3, **settings), manifest)
    for accepted in ({}, {"holdout": "first:60"}, {"folds": 2}):
        check_patience(configure(patience=3, **accepted), manifest)
    check_patience(configure(**settings), manifest)
