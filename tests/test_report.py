"""What a training leaves behind, written for a small data set."""

import json

import pytest

from pipeline.evaluate import metrics
from pipeline.evaluate.report import write_report
from pipeline.format.manifest import load_manifest
from tests.helpers.saved_runs import NORMALIZATION, tiny_model, write_data


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("home") / "data"
    write_data(path)
    return path


def test_report_of_a_run(data_dir, tmp_path):
    history = [{"epoch": 1, "loss": 0.9, "accuracy": 0.5, "val_loss": 0.8, "val_accuracy": 0.6}]
    manifest = load_manifest(data_dir)
    evaluations = write_report(tmp_path, tiny_model(), manifest, data_dir, NORMALIZATION, history, batch_size=10)
    accuracies = {evaluation.split: evaluation.accuracy for evaluation in evaluations}
    assert accuracies == {"train": 1, "val": pytest.approx(19 / 23)}
    assert list(json.loads((tmp_path / metrics.FILE_NAME).read_text())["splits"]) == ["train", "val"]
    names = {"class_balance", "curves", "samples", "confusion_val", "predictions_val", "predictions_test"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"{name}.png" for name in names}
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "saved_model", "evaluation.json", "figures"}


def test_report_takes_an_even_sample_of_a_long_training_split(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.evaluate.report._MAX_TRAIN_ROWS", 5)
    manifest = load_manifest(data_dir)
    train, val = write_report(tmp_path, tiny_model(), manifest, data_dir, NORMALIZATION, [])
    assert (train.num_examples, train.split_examples, train.accuracy) == (5, 23, 1)
    assert (val.num_examples, val.split_examples) == (23, 23)
