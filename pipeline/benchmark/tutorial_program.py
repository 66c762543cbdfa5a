"""The Keras tutorial's program, as a baseline: pandas, NumPy arrays, Keras `fit` with batch 32, float32.

python -m pipeline.benchmark.tutorial_program train.csv --target 0.99

It is that of Davide Scalzo, "Multi-class classification example with Convolutional Neural Network in Keras and
Tensorflow", 2019, except that it holds out the rows that `train.py --holdout` holds out of the same CSV. TensorFlow has
its default settings.
"""

import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError
from pipeline.feed.holdout import Holdout
from pipeline.train.progress import Reporter

_BATCH_SIZE = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print each epoch and when the target was reached; returns the exit code."""
    started = time.perf_counter()
    parser = Parser(prog="tutorial_program.py", description=__doc__)
    add = parser.add_argument
    add("csv", type=pathlib.Path, help="a CSV with a column `label`, and the pixels of square gray images")
    add("--target", type=float, default=0.99, metavar="SHARE", help="validation accuracy (%(default)s)")
    add("--holdout", default="random:0.1", metavar="ROWS", help="rows held out, as of train.py (%(default)s)")
    add("--group-size", type=int, metavar="N", help="as of train.py")
    add("--seed", type=int, default=0, metavar="N", help="of weights, order and dropout (%(default)s)")
    add("--epochs", type=int, default=6, metavar="N", help="passes over the data (%(default)s)")
    add("--log-json", action="store_true", help="one JSON object per line, for machines")
    args = parser.parse_args(argv)
    if args.epochs < 1:
        raise InputError(f"--epochs {args.epochs}: it must be at least 1")
    check_target(args.target)
    clock = _Clock(started, args.target, args.epochs, Reporter(args.log_json))
    _fit(args.csv, Holdout(args.holdout, args.group_size), args.seed, clock)
    if not clock.reached:
        clock.reporter.line(f"validation accuracy {args.target:.2%} not reached in {args.epochs} epochs")
    return 0


def check_target(target: float) -> None:
    """Raise InputError unless the target is a share."""
    if not 0 < target <= 1:
        raise InputError(f"--target {target}: it must be above 0 and at most 1, such as 0.99")


def _fit(path: pathlib.Path, holdout: Holdout, seed: int, clock: "_Clock") -> None:
    labels, images = _read_csv(path)
    held = holdout.rows(labels)
    import keras

    from models.tutorial import make_tutorial

    keras.utils.set_random_seed(seed)
    trained = np.setdiff1d(np.arange(len(labels)), held)
    model = make_tutorial(images.shape[1:], int(labels.max()) + 1)
    model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=clock.begin_epoch, on_test_begin=clock.begin_validation, on_epoch_end=clock.end_epoch
    )
    model.fit(
        images[trained],
        labels[trained],
        _BATCH_SIZE,
        clock.epochs,
        validation_data=(images[held], labels[held]),
        verbose=0,
        callbacks=[callback],
    )


def _read_csv(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels int64 [n], and images float64 [n, H, W, 1] in 0..1.

    Raises:
        InputError: there is no such file, or it is no such CSV; or pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise InputError("the Keras tutorial's program needs pandas: python -m pip install pandas") from error

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        frame = pd.read_csv(path)
    except ValueError as error:  # pandas' own errors are ValueErrors too
        raise InputError(f"{path}: {str(error).strip().splitlines()[0]}; give a CSV with a header") from error
    if "label" not in frame:
        raise InputError(f"{path}: no column 'label'; name it so in the first line")
    if others := [name for name, kind in frame.dtypes.items() if kind != "int64"]:
        raise InputError(f"{path}: column {others[0]!r} has other values than whole numbers; correct them")
    labels = frame.pop("label").to_numpy()
    side = math.isqrt(frame.shape[1])
    if side * side != frame.shape[1]:
        raise InputError(f"{path}: {frame.shape[1]} pixels per row are not a square image; give square gray images")
    return labels, (frame.to_numpy() / 255.0).reshape(-1, side, side, 1)


class _Clock:
    """Reports epochs as `fit` passes through them: the seconds of an epoch are those of its training alone."""

    def __init__(self, started: float, target: float, epochs: int, reporter: Reporter) -> None:
        self.epochs, self.reporter, self.reached = epochs, reporter, False
        self._started, self._target = started, target
        self._began = self._trained = 0.0

    def begin_epoch(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._began = time.perf_counter()

    def begin_validation(self, logs: Any = None) -> None:  # noqa: ARG002
        self._trained = time.perf_counter()

    def end_epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        # Keras divides in float32, in which 99 of 100 are less than 0.99.
        figures = {name: round(float(value), 6) for name, value in logs.items()}
        self.reporter.epoch(self.epochs, {"epoch": epoch + 1, **figures, "seconds": self._trained - self._began})
        if not self.reached and figures["val_accuracy"] >= self._target:
            self.reached, seconds = True, time.perf_counter() - self._started
            text = f"validation accuracy {self._target:.2%} reached after {seconds:.1f} s"
            self.reporter.line(text, event="reached", epoch=epoch + 1, seconds=seconds)


if __name__ == "__main__":
    run_command(main)
