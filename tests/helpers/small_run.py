"""A small real training for the tests: the package's own feed, loop and dropout around a tiny network."""

import io
import pathlib

import keras
import numpy as np

from models.dropout import StepDropout
from pipeline.format.manifest import load_manifest
from pipeline.train import setup
from pipeline.train.checkpoint import CheckpointStore, TrainState
from pipeline.train.config import TrainConfig
from pipeline.train.devices import make_devices
from pipeline.train.loop import LoopConfig
from pipeline.train.progress import Reporter


def tiny_model(image_shape, num_classes, dtype="float32", dropout=StepDropout) -> keras.Model:
    """Dense 16 with dropout: the parts that `make_cnn` has, at a hundredth of its cost."""
    inputs = keras.Input(image_shape, dtype=keras.DTypePolicy(dtype).compute_dtype)
    x = keras.layers.Flatten(dtype=dtype)(inputs)
    x = keras.layers.Dense(16, activation="relu", dtype=dtype)(x)
    x = dropout(0.25, dtype=dtype, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, keras.layers.Softmax(dtype="float32")(logits))


class SmallRun:
    """One run of `TrainConfig(**settings)` on the data in `data`, put together as train.py does it.

    Every epoch of it is audited. What it says is in `out`. `earlier` is the identity of the run that it goes on with.
    """

    def __init__(self, monkeypatch, data: pathlib.Path, run_dir: pathlib.Path, earlier=None, **settings) -> None:
        monkeypatch.setattr(setup, "make_cnn", tiny_model)
        defaults = {
            **{"batch_size": 16, "epochs": 3, "learning_rate": 0.01, "steps_per_call": 4},
            **{"precision": "float32", "audit": True},
        }
        self.config = TrainConfig(data=data, run_dir=run_dir, **{**defaults, **settings})
        self.devices = make_devices(self.config.strategy, self.config.devices)
        self.resolved = setup.make_run_plan(self.config, load_manifest(data), self.devices, earlier)
        self.model, self.optimizer = setup.make_model(self.resolved, self.devices)
        self.out = io.StringIO()
        self.trainer = setup.make_trainer(
            self.resolved, self.devices, self.model, self.optimizer, Reporter(out=self.out)
        )
        self.store = CheckpointStore(run_dir / "checkpoints")

    def fit(self, callbacks=(), stop=None, store="own") -> TrainState:
        """Train from the newest checkpoint, if there is one, to the end; `store` None writes none."""
        state, _ = self.store.restore_newest(self.model, self.optimizer)
        config = self.config
        loop = LoopConfig(config.epochs, config.patience, config.checkpoint_every, config.recover)
        return self.trainer.fit(loop, state, self.store if store == "own" else store, callbacks, stop)

    def variables(self) -> list[np.ndarray]:
        """Weights, then optimizer variables."""
        return [np.asarray(value) for value in (*self.model.get_weights(), *self.optimizer.variables)]


def without_times(history: list[dict]) -> list[dict]:
    """A history less what the clock says."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in history]
