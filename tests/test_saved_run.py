"""Exported models give the original probabilities; invalid files give one line, and no code in them is executed."""

import dataclasses
import importlib
import io
import json
import os
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.evaluate.saved_run import export_model, read_run, takes_pixels
from pipeline.feed.normalize import Normalization
from tests.helpers.saved_runs import NAMES, SHAPE, expected, expected_names, pixels, tiny_model, write_run


@pytest.fixture
def run_dir(tmp_path):
    write_run(tmp_path / "run")
    yield tmp_path / "run"
    keras.utils.clear_session()  # a model that fails to load leaves its name in the names of all later layers


def load_serving(run_dir):
    return tf.saved_model.load(run_dir / "saved_model").signatures["serving_default"]


def test_run_reads_back(run_dir):
    run = read_run(run_dir)
    assert (run.data_name, run.image_shape, run.class_names) == ("data", SHAPE, NAMES)
    np.testing.assert_allclose(run.load_model()(pixels(5).reshape(5, *SHAPE)), expected(pixels(5)), atol=1e-6)


def test_keras_alone_reads_pixels_and_names_of_classes(run_dir):
    model = keras.saving.load_model(run_dir / "model.keras", compile=False)
    assert model.inputs[0].dtype == "uint8"
    np.testing.assert_allclose(model.predict(pixels(5).reshape(5, *SHAPE), verbose=0), expected(pixels(5)), atol=1e-6)
    metadata = json.loads(zipfile.ZipFile(run_dir / "model.keras").read("metadata.json"))
    assert metadata["class_names"] == list(NAMES) and metadata["keras_version"] == keras.__version__


NETWORK = """
import keras

@keras.saving.register_keras_serializable("theirs")
class Twice(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2
"""


def test_layers_of_a_users_own_module_are_loaded(run_dir, tmp_path, monkeypatch):
    (tmp_path / "their_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(importlib.import_module("their_network").Twice()(inputs))
    export_model(run_dir, takes_pixels(keras.Model(inputs, keras.layers.Dense(3)(x)), Normalization()), NAMES)
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps({**config, "settings": {"model": "their_network:make"}}))
    del sys.modules["their_network"]
    del keras.saving.get_custom_objects()["theirs>Twice"]  # as in a new process
    assert read_run(run_dir).load_model().output_shape == (None, 3)


def test_a_users_module_that_is_not_found_is_named(run_dir):
    run = dataclasses.replace(read_run(run_dir), network="no_such_module:make")
    with pytest.raises(InputError, match=r"network no_such_module:make cannot be imported .*its folder on PYTHONPATH$"):
        run.load_model()


def test_a_model_of_normalized_images_is_refused(run_dir):
    tiny_model().save(run_dir / "model.keras")
    refuse_model(run_dir, "takes float32 instead of uint8 pixels, as older runs do")


@pytest.mark.parametrize("rows", [1, 7])
def test_saved_model_normalizes_bytes_and_names_the_class(run_dir, rows):
    serve = load_serving(run_dir)
    assert serve.structured_input_signature[1] == {"images": tf.TensorSpec((None, *SHAPE), tf.uint8, name="images")}
    outputs = serve(images=tf.constant(pixels(rows).reshape(rows, *SHAPE)))
    np.testing.assert_allclose(outputs["probabilities"], expected(pixels(rows)), rtol=1e-5, atol=1e-6)
    assert [name.decode() for name in outputs["class_names"].numpy()] == list(NAMES)
    assert [name.decode() for name in outputs["label"].numpy()] == expected_names(rows)


def test_exporting_again_replaces_and_leaves_nothing_else(run_dir):
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.Conv2D(4, 2, activation="relu")(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    export_model(run_dir, takes_pixels(model, Normalization("unit")), ("ka", "kha", "\u0c97"))
    images = pixels(3).reshape(3, *SHAPE)
    probabilities = model(images / 255.0, training=False)
    np.testing.assert_allclose(read_run(run_dir).load_model()(images), probabilities, atol=1e-6)
    outputs = load_serving(run_dir)(images=tf.constant(images))
    np.testing.assert_allclose(outputs["probabilities"], probabilities, rtol=1e-5, atol=1e-6)
    assert outputs["class_names"].numpy()[2].decode() == "\u0c97"
    names = ["config.json", "labels.txt", "model.keras", "saved_model"]
    assert sorted(path.name for path in run_dir.iterdir()) == names
    config = json.loads(zipfile.ZipFile(run_dir / "model.keras").read("config.json"))
    *layers, network = config["config"]["layers"]
    layers += network["config"]["layers"]
    assert {layer["module"] for layer in layers} == {"keras.layers"}
    assert (network["class_name"], network["registered_name"]) == ("Functional", "Functional")


@pytest.mark.parametrize(
    ("image_shape", "class_names", "message"),
    [
        ((28, 28, 1), NAMES, "here has images of 28x28x1, but .*run was trained on data with images of 4x3x1; use"),
        (SHAPE, ("0", "3", "8"), "here has the classes 0, 3, 8, but .*run was trained on data with 0, 3, 7; use"),
        (SHAPE, tuple(map(str, range(99))), r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... \(99 in all\), but"),
    ],
    ids=["another shape", "other classes", "very many classes"],
)
def test_data_that_do_not_fit_are_refused(run_dir, image_shape, class_names, message):
    with pytest.raises(InputError, match=message):
        read_run(run_dir).check_fits("here", image_shape, class_names)


@pytest.mark.parametrize("name", ["", "model.keras", "config.json"], ids=["no directory", "no model", "no config"])
def test_incomplete_run_is_refused(run_dir, name):
    path = run_dir / name
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(InputError, match=f"run: no {name or 'such run directory'}"):
        read_run(run_dir)


@pytest.mark.parametrize("text", [b"", b"null", b"\xff{}", b"[" * 100_000, b'{"data": [1]}'], ids=lambda text: text[:9])
def test_other_file_as_config_is_refused(run_dir, text):
    (run_dir / "config.json").write_bytes(text)
    with pytest.raises(InputError, match="not the configuration of a run"):
        read_run(run_dir)


EDITS = {
    "data.image_shape": [28, [4, 3], [4, "3", 1], [4, 3, float("inf")], [4, 3, -1], [4, 3, 10**400]],
    "data.class_names": [[0, 3, 7], [], ["0", "3", "3"], ["0", "3", "7\n"], ["0", "3", ""]],
    "data.name": [None],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in EDITS.items() for value in values])
def test_edited_config_is_refused(run_dir, field, value):
    config = json.loads((run_dir / "config.json").read_text())
    *part, key = field.split(".")
    (config[part[0]] if part else config)[key] = value
    (run_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: not the configuration of a run \(.+\); train again") as error:
        read_run(run_dir)
    assert "\n" not in str(error.value)


def refuse_model(run_dir, message="Keras cannot read this model"):
    with pytest.raises(InputError, match=message) as error:
        read_run(run_dir).load_model()
    assert "\n" not in str(error.value) and str(error.value).endswith("train again")


def edit_model(run_dir, name, edit):
    """Replace one file inside model.keras by edit(its bytes), or remove it if that is None."""
    path = run_dir / "model.keras"
    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    files[name] = edit(files[name])
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in files.items():
            if data is not None:
                archive.writestr(entry, data)


@pytest.mark.parametrize("length", [0, 4, 900, -1], ids=str)
def test_truncated_model_is_refused(run_dir, length):
    path = run_dir / "model.keras"
    path.write_bytes(path.read_bytes()[:length])
    refuse_model(run_dir)


def edit_weights(data, value):
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as weights:
        names: list[str] = []
        weights.visit(names.append)
        (name,) = (name for name in names if name.endswith("dense/vars/0"))
        del weights[name]
        weights[name] = value
    return file.getvalue()


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [None, b"", b"null", b"[" * 100_000], ids=lambda data: str(data)[:9])
def test_invalid_file_inside_a_model_is_refused(run_dir, name, content):
    edit_model(run_dir, name, lambda _: content)
    refuse_model(run_dir)


@pytest.mark.parametrize("value", [np.zeros((2, 2)), "text"], ids=["another shape", "text"])
def test_invalid_weights_are_refused(run_dir, value):
    edit_model(run_dir, "model.weights.h5", lambda data: edit_weights(data, value))
    refuse_model(run_dir)


@pytest.mark.parametrize(
    ("layer", "changes"),
    [
        (None, {"layers": None}),
        (None, {"layers": [1]}),
        (None, {"output_layers": [["other", 0, 0]]}),
        (None, {"name": "\ud800"}),
        *((0, {"batch_shape": [None, size, 3, 1]}) for size in (-4, 10**30)),
        *((2, {"units": units}) for units in ("many", -3, 10**30)),
        (2, {"activation": "none"}),
        (2, {"activation": {"module": "os", "class_name": "system", "config": "touch mark"}}),
    ],
    ids=str,
)
def test_edited_model_is_refused(run_dir, layer, changes):
    def edit(data):
        config = json.loads(data)
        network = config["config"]["layers"][2]  # behind the normalization
        (config if layer is None else network["config"]["layers"][layer])["config"].update(changes)
        return json.dumps(config).encode()

    edit_model(run_dir, "config.json", edit)
    refuse_model(run_dir)


@pytest.mark.parametrize(
    "model",
    [
        lambda inputs: keras.layers.Dense(3)(inputs),
        lambda inputs: [keras.layers.Dense(3)(keras.layers.Flatten()(inputs))] * 2,
    ],
    ids=["another output", "two outputs"],
)
def test_model_of_another_run_is_refused(run_dir, model):
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, model(inputs)).save(run_dir / "model.keras")
    refuse_model(run_dir, r"a model of .* but the config\.json beside it is of a run of")


def test_code_within_a_model_is_not_executed(run_dir):
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, keras.layers.Lambda(lambda images: images[:, 0, :, 0])(inputs)).save(run_dir / "model.keras")
    refuse_model(run_dir)


@pytest.mark.parametrize(
    ("module", "name", "config"),
    [("subprocess", "Popen", {"args": ["touch", "MARK"]}), ("os", "system", {"command": "touch MARK"})],
)
def test_function_that_a_model_names_as_a_layer_is_not_called(run_dir, module, name, config):
    mark = run_dir / "mark"

    def edit(data):
        model = json.loads(data)
        changes = {"module": module, "class_name": name, "registered_name": None, "config": config}
        model["config"]["layers"][1].update(changes)
        return json.dumps(model).replace("MARK", os.fspath(mark)).encode()

    edit_model(run_dir, "config.json", edit)
    refuse_model(run_dir)
    assert not mark.exists()
