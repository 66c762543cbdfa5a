import importlib.util
import pathlib

import pytest

from pipeline.errors import InputError
from pipeline.train.callbacks import make_callbacks
from pipeline.train.config import TrainConfig


def config(**settings):
    return TrainConfig(data=pathlib.Path("d"), run_dir=pathlib.Path("r"), **settings)


def test_tensorboard_is_there_when_asked_for():
    assert make_callbacks(config()) == []
    assert [type(callback).__name__ for callback in make_callbacks(config(tensorboard=True))] == ["TensorBoard"]


def test_a_missing_package_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package tensorboard: python -m pip install"):
        make_callbacks(config(tensorboard=True))
