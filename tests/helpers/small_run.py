"""A small real training for the tests: the package's own feed, loop and dropout around a tiny network."""

import io
import json
import pathlib
from typing import Any

import keras
import numpy as np

from models.layer_types import PLAIN, LayerTypes
from pipeline.format.manifest import load_manifest
from pipeline.train import setup
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.environment import numerics
from pipeline.train.progress import Reporter, StopSignal
from pipeline.train.run_plan import RunPlan, make_run_plan
from pipeline.train.state import TrainState
from pipeline.train.stored import Stamp, StoredFeed, StoredRun


def tiny_model(
    image_shape: tuple[int, ...], num_classes: int, dtype: str = "float32", layer_types: LayerTypes = PLAIN
) -> keras.Model:
    """Dense 16 with dropout: the parts that `make_tutorial` has, at a hundredth of its cost."""
    inputs = keras.Input(image_shape, dtype=keras.DTypePolicy(dtype).compute_dtype)
    x = keras.layers.Flatten(dtype=dtype)(inputs)
    x = keras.layers.Dense(16, activation="relu", dtype=dtype)(x)
    x = layer_types.dropout(0.25, dtype=dtype, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, keras.layers.Softmax(dtype="float32")(logits))


TINY = f"{__name__}:tiny_model"
# Plain Adam and images, for tests that do not ask for more.
PLAIN_RECIPE: dict[str, Any] = {
    "augment": "none",
    "optimizer": "adam",
    "beta_2": 0.999,
    "schedule": "cosine",
    "warmup": 0.05,
    "ema": 0.0,
}


class SmallRun:
    """One run of `TrainConfig(**settings)` on the data in `data`, put together as train.py does it.

    Every epoch of it is audited. What it prints, one JSON object per line, is in `out`; `earlier` is what the run that
    it resumes has stored.
    """

    def __init__(
        self,
        data: pathlib.Path,
        run_dir: pathlib.Path,
        earlier: StoredRun | None = None,
        **settings: Any,
    ) -> None:
        defaults = {
            **{"batch_size": 16, "epochs": 3, "learning_rate": 0.01, "steps_per_call": 4},
            **{"precision": "float32", "audit": True, "model": TINY, **PLAIN_RECIPE},
        }
        self.config = TrainConfig(data=data, run_dir=run_dir, **{**defaults, **settings})
        self.devices = make_devices(self.config.strategy, self.config.devices)
        self.plan = make_run_plan(self.config, load_manifest(data), self.devices, earlier)
        self.model, self.optimizer = setup.make_model(self.plan, self.devices)
        stamp = Stamp(self.plan.identity("tiny"), numerics())
        self.store = CheckpointStore(run_dir / "checkpoints", stamp, self.plan.steps)
        self.out = io.StringIO()
        reporter = Reporter(as_json=True, out=self.out)
        self.trainer = setup.make_trainer(self.plan, self.devices, self.model, self.optimizer, self.store, reporter)

    def fit(self, callbacks: Any = (), stop: StopSignal | None = None) -> TrainState:
        """Train from the newest checkpoint, if there is one, to the end."""
        return self.trainer.fit(self.trainer.restore(), callbacks, stop)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of this name that it printed, without their texts."""
        events = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [{k: v for k, v in event.items() if k != "text"} for event in events if event.pop("event") == name]

    def texts(self, word: str) -> list[str]:
        """The texts it printed that hold a word."""
        texts = [json.loads(line)["text"] for line in self.out.getvalue().splitlines()]
        return [text for text in texts if word in text]

    def variables(self) -> list[np.ndarray]:
        """Weights, then optimizer variables."""
        return [np.asarray(value) for value in (*self.model.get_weights(), *self.optimizer.variables)]


class StopAfter(keras.callbacks.Callback):
    """Request a stop, as a signal would, once so many calls are done."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.signal = calls, StopSignal()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls -= 1
        if self.calls == 0:
            self.signal.signum = 15


def stored_run(plan: RunPlan) -> StoredRun:
    """What a second start of a plan reads back."""
    return StoredRun(plan.identity("tiny"), StoredFeed(plan.feed_plan.feed, plan.feed_plan.budget), "start")  # type: ignore[arg-type]


def without_times(history: list[Any]) -> list[dict[str, Any]]:
    """A history without what the clock measured."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in history]


def steps_without_times(state: TrainState) -> list[Any]:
    """The rows of steps without what the clock measured."""
    return [row._replace(seconds=0.0, waited=0.0) for row in state.step_rows]


def assert_same_weights(left: SmallRun, right: SmallRun, tolerance: float = 0.0) -> None:
    """Two runs have the same weights and optimizer variables."""
    for a, b in zip(left.variables(), right.variables(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
