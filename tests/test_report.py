"""What a training leaves behind, written for a small data set."""

import json

import pytest

from pipeline.evaluate import evaluation
from pipeline.evaluate.report import write_report
from pipeline.format.manifest import load_manifest
from tests.helpers.saved_runs import NORMALIZATION, tiny_model, write_data


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("home")
    write_data(path / "data")
    return path


def test_report_of_a_run(home, tmp_path, capsys):
    data_dir = home / "data"
    history = [{"epoch": 1, "loss": 0.9, "accuracy": 0.5, "val_loss": 0.8, "val_accuracy": 0.6}]
    manifest = load_manifest(data_dir)
    found = write_report(tmp_path, tiny_model(), manifest, data_dir, NORMALIZATION, history, batch_size=10)
    accuracies = {each.split: each.accuracy for each in found}
    assert accuracies == {"train": 1, "val": pytest.approx(19 / 23)}
    assert list(json.loads((tmp_path / evaluation.FILE_NAME).read_text())["splits"]) == ["train", "val"]
    assert "82.61%" in capsys.readouterr().out
    names = {"class_balance", "curves", "samples", "confusion_val", "predictions_val", "predictions_test"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"{name}.png" for name in names}
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "saved_model", "evaluation.json", "figures"}


def test_report_takes_a_sample_of_a_long_training_split(home, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.evaluate.report._MAX_TRAIN_ROWS", 5)
    manifest = load_manifest(home / "data")
    train, val = write_report(tmp_path, tiny_model(), manifest, home / "data", NORMALIZATION, [], quiet=True)
    assert (train.num_examples, train.split_examples) == (5, 23)
    assert (val.num_examples, val.split_examples) == (23, 23)
