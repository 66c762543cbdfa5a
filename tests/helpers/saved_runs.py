"""A small data set and a run on it, whose probabilities NumPy alone can tell."""

import json

import keras
import numpy as np

from pipeline.evaluate import export
from pipeline.feed.normalize import Normalization
from pipeline.format.manifest import Manifest, Shard, Split, Validation
from pipeline.format.pages import ShardDigest
from pipeline.format.records import RecordLayout

SHAPE, NAMES = (4, 3, 1), ("0", "3", "7")
NORMALIZATION = Normalization("standard", (100.0,), (50.0,))


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


def write_split(directory, name, images, labels, ids):
    layout, shards = RecordLayout(12), []
    for place in range(2):
        part = slice(place, None, 2)
        records = layout.encode(images[part], labels[part], ids[part])
        digest = ShardDigest(layout.stride)
        digest.update(records.reshape(-1))
        file = f"{name}-{place}.tfrecord"
        shards.append(Shard(file, len(records), records.nbytes, digest.page_crc32c, digest.sha256))
        (directory / shards[-1].name).write_bytes(records.tobytes())
    counts = () if (labels < 0).all() else tuple(int((labels == k).sum()) for k in range(3))
    return Split(name, len(images), counts, tuple(shards))


def write_data(directory, names=NAMES, image_shape=SHAPE):
    directory.mkdir()
    images, ids = pixels(23), 1000 + 3 * np.arange(23)
    right = expected(images).argmax(axis=1)
    wrong = np.where(np.arange(23) < 4, (right + 1) % 3, right)
    parts = [("train", right), ("val", wrong), ("test", np.full(23, -1))]
    splits = {name: write_split(directory, name, images, labels.astype(np.int64), ids) for name, labels in parts}
    stride = RecordLayout(12).stride
    manifest = Manifest("marks", image_shape, names, splits, (), Validation(), (100.0,), (50.0,), stride)
    (directory / "manifest.json").write_text(manifest.to_json())
    return manifest


def write_run(directory, model=None):
    directory.mkdir()
    export.export_model(directory, model or tiny_model(), NORMALIZATION, NAMES)
    data = {"name": "marks", "manifest_sha256": "", "image_shape": SHAPE, "class_names": NAMES}
    (directory / "config.json").write_text(json.dumps({"data": data, "normalization": NORMALIZATION.to_dict()}))
