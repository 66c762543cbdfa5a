"""What a training leaves behind, written for a small data set."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.evaluate import metrics, predict
from pipeline.evaluate.report import write_report
from pipeline.format.manifest import load_manifest
from tests.helpers.saved_runs import (
    NORMALIZATION,
    SHAPE,
    expected_names,
    pixels,
    tiny_model,
    write_csv,
    write_data,
)
from tools import csv_to_tfrecord


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("home") / "data"
    write_data(path)
    return path


def test_report_of_a_run(data_dir, tmp_path):
    manifest = load_manifest(data_dir)
    report = write_report(tmp_path, tiny_model(), manifest, data_dir, NORMALIZATION, batch_size=10)
    accuracies = {evaluation.split: evaluation.accuracy for evaluation in report.evaluations}
    assert accuracies == {"train": 1, "val": pytest.approx(19 / 23)}
    assert list(json.loads((tmp_path / metrics.FILE_NAME).read_text())["splits"]) == ["train", "val"]
    names = {"class_balance", "samples", "confusion_val", "confidence_val", "coverage_val", "confused_val"}
    names |= {"predictions_val", "predictions_test"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"{name}.png" for name in names}
    files = {"model.keras", "labels.txt", "saved_model", "evaluation.json", "figures"}
    assert {path.name for path in tmp_path.iterdir()} == files
    assert (tmp_path / "labels.txt").read_text().splitlines() == list(manifest.class_names)


def test_every_row_is_predicted_once(data_dir, tmp_path, monkeypatch):
    rows, in_batches = [], predict.in_batches
    monkeypatch.setattr(predict, "in_batches", lambda *args: [rows.extend(b[2]) or b for b in in_batches(*args)])
    manifest = load_manifest(data_dir)
    assert write_report(tmp_path, classifier(), manifest, data_dir, NORMALIZATION).calibration.num_examples == 23
    assert len(rows) == sum(split.num_examples for split in manifest.splits.values())


def test_report_takes_an_even_sample_of_a_long_training_split(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.evaluate.report._MAX_TRAIN_ROWS", 5)
    manifest = load_manifest(data_dir)
    train, val = write_report(tmp_path, tiny_model(), manifest, data_dir, NORMALIZATION).evaluations
    assert (train.num_examples, train.split_examples, train.accuracy) == (5, 23, 1)
    assert (val.num_examples, val.split_examples) == (23, 23)


def classifier():
    """A network whose probabilities are the softmax of a layer `logits`, as training needs it."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input(SHAPE)
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Softmax()(logits))


def test_exported_model_is_calibrated_on_validation(data_dir, tmp_path):
    plain, model = classifier(), classifier()
    report = write_report(tmp_path, model, load_manifest(data_dir), data_dir, NORMALIZATION)
    text = (tmp_path / metrics.FILE_NAME).read_text()
    result = json.loads(text)["calibration"]
    temperature = result["temperature"]
    assert (result["split"], result["num_examples"]) == ("val", 23) and temperature > 1
    assert result["loss"] < result["uncalibrated_loss"]
    assert result["loss"] == pytest.approx(json.loads(text)["splits"]["val"]["loss"], rel=1e-4)
    images = pixels(23).reshape(-1, *SHAPE)
    expected = plain(NORMALIZATION.apply(images)).numpy() ** (1 / temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)
    serve = tf.saved_model.load(tmp_path / "saved_model").signatures["serving_default"]
    np.testing.assert_allclose(serve(images=tf.constant(images))["probabilities"], expected, atol=1e-5)
    assert f"calibration: temperature {temperature:.3f} from 23 rows of val; log loss" in report.calibration.text


def test_without_validation_nothing_is_calibrated(tmp_path):
    path = write_csv(tmp_path / "train.csv", labels=expected_names(23))
    args = ["--split", f"train={path}", "--out", tmp_path / "data", "--image-shape", *SHAPE]
    csv_to_tfrecord.main([str(arg) for arg in args])
    model = classifier()
    weights = model.get_weights()
    write_report(tmp_path, model, load_manifest(tmp_path / "data"), tmp_path / "data", NORMALIZATION)
    assert json.loads((tmp_path / metrics.FILE_NAME).read_text())["calibration"] is None
    assert all(map(np.array_equal, weights, model.get_weights()))


def test_model_is_exported_even_if_validation_cannot_be_read(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "data")
    shard = next((tmp_path / "data").glob("*val*"))
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(InputError):
        write_report(tmp_path, classifier(), load_manifest(tmp_path / "data"), tmp_path / "data", NORMALIZATION)
    assert (tmp_path / "model.keras").is_file()
