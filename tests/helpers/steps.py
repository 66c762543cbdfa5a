"""Some real steps of training on given devices, without a run around them."""

import itertools
import pathlib
from typing import Any

import keras
import numpy as np

from models.dropout import StepDropout
from pipeline.feed.dataset import Position
from pipeline.format.manifest import load_manifest
from pipeline.train import setup
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices
from pipeline.train.prefetch import Feeds, prefetch_to_devices
from pipeline.train.run_plan import RunPlan, make_run_plan
from pipeline.train.step import CompiledSteps
from tests.helpers.small_run import PLAIN_RECIPE

PER_CALL = 5


class Steps:
    """The network, feeds and compiled steps of `TrainConfig(**settings)` with batches of 16 and 5 steps per call."""

    def __init__(self, data: pathlib.Path, devices: Devices, dropout: bool = True, **settings: Any) -> None:
        defaults = {
            **{**PLAIN_RECIPE, "model": "tutorial", "schedule": "constant", "batch_size": 16},
            **{"steps_per_call": PER_CALL, "precision": "float32"},
        }
        config = TrainConfig(data=data, run_dir=pathlib.Path("run"), **{**defaults, **settings})
        self.devices = devices
        self.plan: RunPlan = make_run_plan(config, load_manifest(data), devices)
        self.model, self.optimizer = setup.make_model(self.plan, devices)
        for layer in () if dropout else self.model.layers:
            if isinstance(layer, StepDropout):
                layer.rate = 0.0  # XLA draws other masks
        self.feeds: Feeds = setup.make_feeds(self.plan, devices)
        self.compiled: CompiledSteps = setup.make_compiled_steps(
            self.plan, devices, self.model, self.optimizer, self.feeds
        )

    def elements(self, epochs: int = 2) -> list[Any]:
        """(parts, count) of every call of so many epochs."""
        return list(prefetch_to_devices(self.feeds.train(Position(0, 0, epochs)), self.devices))

    def train(self, calls: int = 5) -> np.ndarray:
        """The mean loss of each step of so many calls, in turn."""
        losses, first = [], 0
        for parts, count in itertools.islice(self.elements(), calls):
            steps = int(np.count_nonzero(count))
            result = self.compiled.train(parts, count, first)
            losses.append(result.step_losses[:steps] / count.numpy()[:steps])
            first += steps
        return np.concatenate(losses)

    def weights(self) -> list[np.ndarray]:
        """The weights as the host sees them."""
        return [keras.ops.convert_to_numpy(weight) for weight in self.model.weights]
