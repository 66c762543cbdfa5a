"""Exported models give the probabilities of the model that was exported, from bytes."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.evaluate import export
from pipeline.feed.normalize import Normalization

NAMES = ("ka", "kha", "\u0c97")
UNIT = Normalization("unit")
STANDARD = Normalization("standard", (20.0, 30.0), (60.0, 70.0))


def tiny_model(image_shape=(5, 4, 2), num_classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(image_shape)
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax")(x))


def pixels(rows, image_shape=(5, 4, 2)):
    return (np.arange(rows * np.prod(image_shape)) * 37 % 256).astype(np.uint8).reshape(rows, *image_shape)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    export.export_model(path, tiny_model(), STANDARD, NAMES)
    return path


@pytest.fixture(scope="module")
def serve(run_dir):
    return tf.saved_model.load(run_dir / "saved_model").signatures["serving_default"]


def expected(images):
    normalized = (images.astype(np.float32) - [20, 30]) / [60, 70]
    return tiny_model()(normalized, training=False).numpy()


def test_keras_file_holds_the_weights(run_dir):
    loaded = keras.saving.load_model(run_dir / "model.keras", safe_mode=True)
    for saved, original in zip(loaded.get_weights(), tiny_model().get_weights(), strict=True):
        np.testing.assert_array_equal(saved, original)


def test_keras_file_holds_plain_layers_only(run_dir):
    config = json.loads(zipfile.ZipFile(run_dir / "model.keras").read("config.json"))
    assert {layer["module"] for layer in config["config"]["layers"]} == {"keras.layers"}


@pytest.mark.parametrize("rows", [1, 7], ids=["one image", "several"])
def test_saved_model_normalises_bytes_itself(serve, rows):
    images = pixels(rows)
    outputs = serve(images=tf.constant(images))
    np.testing.assert_allclose(outputs["probabilities"], expected(images), rtol=1e-5, atol=1e-6)


def test_saved_model_with_unit_normalization(tmp_path):
    export.write_saved_model(tmp_path / "model", tiny_model(), UNIT, NAMES)
    outputs = tf.saved_model.load(tmp_path / "model").signatures["serving_default"](images=tf.constant(pixels(3)))
    np.testing.assert_allclose(outputs["probabilities"], tiny_model()(pixels(3) / 255.0).numpy(), rtol=1e-5, atol=1e-6)


def test_saved_model_names_the_most_probable_class(serve):
    outputs = serve(images=tf.constant(pixels(9)))
    assert [name.decode() for name in outputs["class_names"].numpy()] == list(NAMES)
    names = np.array(NAMES)[expected(pixels(9)).argmax(axis=1)]
    assert [name.decode() for name in outputs["label"].numpy()] == names.tolist()


def test_saved_model_states_its_types(serve):
    _, inputs = serve.structured_input_signature
    assert inputs == {"images": tf.TensorSpec((None, 5, 4, 2), tf.uint8, name="images")}
    outputs = {name: (spec.dtype, spec.shape.as_list()) for name, spec in serve.structured_outputs.items()}
    assert outputs == {
        "probabilities": (tf.float32, [None, 3]),
        "class_names": (tf.string, [3]),
        "label": (tf.string, [None]),
    }


def test_exporting_again_replaces_and_leaves_nothing_else(tmp_path):
    for seed in (1, 2):
        export.export_model(tmp_path, tiny_model(seed=seed), UNIT, NAMES)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], tiny_model(seed=2).get_weights()[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "saved_model"]


def test_wrong_number_of_names_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="3 outputs, expected 2"):
        export.export_model(tmp_path, tiny_model(), UNIT, NAMES[:2])
    assert not list(tmp_path.iterdir())


def test_mixed_precision_model_is_refused(tmp_path):
    inputs = keras.Input((2, 2, 1))
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", dtype="mixed_bfloat16")(x))
    with pytest.raises(ValueError, match="float32"):
        export.export_model(tmp_path, model, UNIT, NAMES)
