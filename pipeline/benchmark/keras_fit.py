"""Keras `fit` on arrays as a baseline of training, at its best."""

import time
from typing import Any

import keras
import numpy as np

from models.tutorial import make_tutorial
from pipeline.benchmark.gpu_cases import Case
from pipeline.benchmark.timing import Rates
from pipeline.feed.resident import load_split
from pipeline.splits import TRAIN
from pipeline.train.run_plan import RunPlan


def fit_rates(plan: RunPlan, case: Case, rounds: int, seconds: float) -> tuple[Rates, keras.Model]:
    """Images per second of Keras `fit` on arrays per epoch, without the first, and the model that it trained.

    Its best case: the arrays are bytes, which are normalized on the device as ours are, and nothing is validated.

    Args:
        rounds, seconds: at least so many epochs, and so long.
    """
    arrays = load_split(plan.config.data, plan.manifest, TRAIN)
    shape = plan.manifest.image_shape
    inputs = keras.Input(shape, dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255, dtype=plan.compute_dtype)(inputs)
    network = make_tutorial(shape, plan.manifest.num_classes, plan.precision)
    model = keras.Model(inputs, network(scaled))
    model.compile(
        keras.optimizers.Adam(plan.config.peak_learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=case.steps_per_call,
        jit_compile=case.xla,
    )
    timer = _EpochTimer(rounds, seconds)
    images = arrays.images.reshape(-1, *shape)
    model.fit(images, arrays.labels, case.batch_size, epochs=10_000, verbose=0, callbacks=[timer])
    return timer.rates(len(arrays)), network


class _EpochTimer(keras.callbacks.Callback):
    """Notes when epochs end, and stops `fit` after enough of them."""

    def __init__(self, rounds: int, seconds: float) -> None:
        super().__init__()
        self._rounds, self._seconds = rounds, seconds
        self._ends: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._ends.append((time.perf_counter(), time.process_time()))
        if epoch >= self._rounds and self._ends[-1][0] - self._ends[0][0] >= self._seconds:
            self.model.stop_training = True

    def rates(self, images: int) -> Rates:
        """From the intervals between the ends, so that what fit does between epochs counts too."""
        intervals = np.diff(np.array(self._ends), axis=0)
        return Rates(tuple((images / intervals[:, 0]).tolist()), tuple((intervals[:, 1] / images).tolist()))
