"""What `--tensorboard` and `--profile` write: scalars per step and epoch, augmented images, histograms, a profile."""

import sys
from typing import Any

import keras
import tensorflow as tf

from pipeline.augment.preview import augmented_versions
from pipeline.feed.order import Steps
from pipeline.feed.stream import read_sample
from pipeline.splits import TRAIN
from pipeline.train.run_plan import RunPlan

FOLDER = "tensorboard"
_WARM_UP_CALLS = 3  # the first one compiles; in the next ones allocators and threads still settle
_IMAGES = 16
_CHANNELS = (1, 3, 4)  # that TensorBoard can show


class StepBoard(keras.callbacks.TensorBoard):
    """Keras's callback (scalars per epoch, histograms of weights) with scalars per call and augmented images."""

    def __init__(self, plan: RunPlan) -> None:
        super().__init__(str(plan.config.run_dir / FOLDER), histogram_freq=1, write_graph=False)
        self._plan = plan

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        plan = self._plan
        if plan.manifest.image_shape[2] in _CHANNELS:
            rows = read_sample(plan.config.data, plan.manifest, TRAIN, _IMAGES)
            images = rows.images.reshape(-1, *plan.manifest.image_shape)
            shown = augmented_versions(images, plan.augmentation, plan.config.seed, 1, plan.dark_background)[0]
            with self._train_writer.as_default():
                tf.summary.image("augmented", shown, step=0, max_outputs=_IMAGES)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        values = dict(logs or {})
        step = int(values.pop("step"))
        with self._train_writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"step_{name}", value, step=step)


class Profile(keras.callbacks.Callback):
    """TensorFlow's profile of `num_steps` steps, in whole calls, after the first calls of this start.

    A start of fewer calls has its last one profiled.
    """

    def __init__(self, folder: str, num_steps: int, steps: Steps, epochs: int) -> None:
        super().__init__()
        self._folder, self._left, self._steps, self._epochs = folder, num_steps, steps, epochs
        self._calls, self._warm_up, self._runs = 0, _WARM_UP_CALLS, False
        self._epoch = self._first = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self._calls:
            later = self._epochs - self._epoch - 1
            left = len(list(self._steps.calls(batch))) + later * len(list(self._steps.calls(0)))
            self._warm_up = min(_WARM_UP_CALLS, left - 1)
        self._calls, self._first = self._calls + 1, batch
        if self._calls == self._warm_up + 1:
            tf.profiler.experimental.start(self._folder)
            self._runs = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._runs:
            self._left -= batch + 1 - self._first
            if self._left <= 0:
                self._stop()

    def on_train_end(self, logs: Any = None) -> None:
        if self._runs:
            self._stop()
        elif not self._calls:
            print("no profile: every step is trained already", file=sys.stderr)

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self._runs = False
