"""Run the article's own program - pandas, NumPy arrays, Keras fit, batch 32 - to compare with; prints JSON.

python tools/article_baseline.py train.csv --epochs 6
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the article does and print seconds and accuracies; returns the exit code."""
    parser = Parser(
        prog="article_baseline.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", type=pathlib.Path, help="a CSV with a label column and pixels of 28x28")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--validation", type=int, default=5000, help="random rows held out (default 5,000)")
    args = parser.parse_args(argv)
    if not args.csv.is_file():
        raise InputError(f"{args.csv}: no such file")
    print(json.dumps(_run(args.csv, args.epochs, args.validation), indent=1))
    return 0


def _run(path: pathlib.Path, epochs: int, validation: int) -> dict:
    """The program in the article's order; TensorFlow's settings are its defaults, so nothing of ours is imported."""
    started = time.perf_counter()
    import keras
    import numpy as np
    import pandas as pd
    from keras import layers

    frame = pd.read_csv(path)
    labels = frame["label"].to_numpy()
    images = frame.drop(columns="label").to_numpy().reshape(-1, 28, 28, 1) / 255.0
    order = np.random.default_rng(0).permutation(len(images))
    held, rest = order[:validation], order[validation:]
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters, kernel in ((32, 5), (64, 3)):
        model.add(layers.Conv2D(filters, kernel, padding="same", activation="relu"))
        model.add(layers.Conv2D(filters, kernel, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
        model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(256, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    begun, trained = [], []
    clock = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: begun.append(time.perf_counter()))
    clock.on_test_begin = lambda *_: trained.append(time.perf_counter())  # an epoch's validation follows its training
    loaded = time.perf_counter()
    held_out = images[held], labels[held]
    fitted = model.fit(images[rest], labels[rest], 32, epochs, validation_data=held_out, verbose=2, callbacks=[clock])
    history = fitted.history
    ended = time.perf_counter()
    return {
        "rows": len(rest),
        "epochs": epochs,
        "seconds_until_fit": loaded - started,
        "seconds_of_fit": ended - loaded,
        "seconds": ended - started,
        "images_per_second": len(rest) * epochs / (ended - loaded),
        "training_images_per_second": [len(rest) / (end - begin) for begin, end in zip(begun, trained, strict=True)],
        **{key: values for key, values in history.items()},
    }


if __name__ == "__main__":
    run_command(main)
