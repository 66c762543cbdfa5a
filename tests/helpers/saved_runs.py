"""A small data set and a run on it, whose probabilities NumPy alone can compute."""

import csv
import json

import keras
import numpy as np

from pipeline.evaluate.saved_run import export_model, takes_pixels
from pipeline.feed.normalize import Normalization
from tools import csv_to_tfrecord, predict

SHAPE, NAMES = (4, 3, 1), ("0", "3", "7")
NORMALIZATION = Normalization("standard", (100.0,), (50.0,))
IDS = 1000 + 3 * np.arange(23)


def pixels(rows):
    return (np.arange(rows * 12) * 37 % 251).astype(np.uint8).reshape(rows, 12)


def tiny_model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def expected(images):
    """Probabilities by NumPy alone: the model is one dense layer."""
    kernel, bias = tiny_model().get_weights()
    logits = (images.astype(np.float64) - 100) / 50 @ kernel + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expected_names(rows):
    """The class that the model predicts for each of so many rows."""
    return [NAMES[label] for label in expected(pixels(rows)).argmax(axis=1)]


def write_csv(path, rows=23, width=12, labels=None, ids=None, header=True):
    columns = {"id": ids, "label": labels, **{f"pixel{k}": pixels(rows)[:, k % 12] for k in range(width)}}
    columns = {name: values for name, values in columns.items() if values is not None}
    lines = [",".join(map(str, line)) for line in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns)] * header + lines) + "\n")
    return path


def write_data(directory):
    """23 rows of train, labelled as the model predicts; the same as val with 4 other labels, and as test without."""
    right = expected_names(23)
    wrong = [NAMES[(NAMES.index(name) + 1) % 3] if row < 4 else name for row, name in enumerate(right)]
    args = ["--out", directory, "--shards", "2", "--image-shape", *SHAPE]
    for split, labels in (("train", right), ("val", wrong), ("test", None)):
        path = write_csv(directory.with_name(f"{split}.csv"), labels=labels, ids=IDS)
        args += ["--split", f"{split}={path}"]
    csv_to_tfrecord.main([str(arg) for arg in args])


def write_run(directory, model=None, normalization=NORMALIZATION, shape=SHAPE, names=NAMES):
    directory.mkdir()
    export_model(directory, takes_pixels(model or tiny_model(), normalization), names)
    data = {"name": "data", "manifest_sha256": "", "image_shape": shape, "class_names": names}
    (directory / "config.json").write_text(json.dumps({"data": data, "normalization": normalization.to_dict()}))


def write_home(path):
    """A folder with `data` and `run`."""
    write_data(path / "data")
    write_run(path / "run")
    return path


def run_predict(home, folder, *more, split="val", out="out.csv"):
    """Run tools/predict.py on a split of `home` (None: on what is in `more`); returns the lines of FOLDER/OUT."""
    source = ["--data", home / "data", "--split", split] if split else []
    args = ["--run", home / "run", *source, "--out", folder / out, "--batch-size", 10, *more]
    predict.main([str(arg) for arg in args])
    with (folder / out).open(newline="") as file:
        return list(csv.reader(file))
