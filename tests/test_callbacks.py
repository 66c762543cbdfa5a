"""Keras callbacks in this loop: which work, what they get after a resume, and which are refused."""

import importlib.util
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.train.callbacks import make_callbacks
from pipeline.train.config import parse_callback
from pipeline.train.progress import StopRequested
from tests.helpers.small_run import SmallRun, StopAfter, assert_same_weights, without_times

# A loss never falls by 10, so the rate is halved after each epoch from the second one on.
PLATEAU = "keras.callbacks:ReduceLROnPlateau,monitor=loss,factor=0.5,patience=1,min_delta=10.0"


def halve(epoch, rate):
    return rate * 0.5


def halving():
    return keras.callbacks.LearningRateScheduler(halve)


class Hooks(keras.callbacks.Callback):
    """The names of the hooks called, and the logs they got."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(("train_begin", None))

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch_begin", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch_end", (batch, sorted(logs))))

    def on_test_end(self, logs=None):
        self.calls.append(("test_end", sorted(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch_end", (epoch, sorted(logs))))

    def on_train_end(self, logs=None):
        self.calls.append(("train_end", sorted(logs)))


def test_a_resumed_run_has_the_rates_of_an_uninterrupted_one(digits, tmp_path):
    both = {"schedule": "constant", "callback": (PLATEAU, f"{__name__}:halving")}

    def run(name, stopper=None):
        small = SmallRun(digits, tmp_path / name, epochs=4, **both)
        listeners = make_callbacks(small.plan)
        return small, lambda: small.fit([*listeners, *filter(None, [stopper])], stopper and stopper.signal)

    whole, train = run("whole")
    expected = train().history
    rates = np.array([row["learning_rate"] for row in expected])
    assert rates.tolist() == pytest.approx([0.005, 0.0025, 0.000625, 0.00015625])  # halved twice from the third on
    with pytest.raises(StopRequested):
        run("stopped", StopAfter(10))[1]()  # within the third epoch
    resumed, train = run("stopped")
    assert without_times(train().history) == without_times(expected)
    assert_same_weights(whole, resumed)


def test_hooks_get_what_the_documentation_says(digits, tmp_path):
    hooks = Hooks()
    SmallRun(digits, tmp_path, epochs=1, steps_per_call=7).fit([hooks])
    means, validation = ["accuracy", "loss"], ["val_accuracy", "val_loss"]
    figures = sorted([*means, *validation, "images_per_second", "seconds", "learning_rate"])
    call = sorted([*means, "images_per_second", "feed_wait", "learning_rate", "step"])
    assert hooks.calls == [
        *(("train_begin", None), ("epoch_begin", 0), ("batch_end", (6, call)), ("batch_end", (12, call))),
        *(("test_end", validation), ("epoch_end", (0, figures)), ("train_end", sorted([*figures, "epoch", "step"]))),
    ]


@pytest.mark.parametrize(
    ("callback", "settings", "message"),
    [
        (
            PLATEAU,
            {"schedule": "one-cycle"},
            "as --schedule one-cycle does; add --schedule constant",
        ),
        (f"{__name__}:halving", {"schedule": "constant", "recover": 1}, "as --recover does; omit one"),
        ("keras.callbacks:BackupAndRestore,backup_dir=b", {}, "every run resumes by itself"),
        ("keras.callbacks:SwapEMAWeights", {}, "use --ema"),
        ("keras.callbacks:EarlyStopping,restore_best_weights=True", {}, "use --patience N"),
        ("keras.callbacks:Early", {}, "cannot import it"),
        ("keras.callbacks:TerminateOnNaN,x=1", {}, "TypeError: .*name=value"),
        ("builtins:dict", {}, "a dict, not a keras.callbacks.Callback"),
    ],
)
def test_what_cannot_work_is_refused_with_what_does(digits, tmp_path, callback, settings, message):
    run = SmallRun(digits, tmp_path, callback=(callback,), **settings)
    with pytest.raises(InputError, match=message):
        make_callbacks(run.plan)


@pytest.mark.parametrize("text", ["nothing", "a:", ":b", "a:b,c", "a:b,c=", "a:b c"])
def test_a_callback_of_another_form_is_refused(text):
    with pytest.raises(InputError, match="give package.module:Class"):
        parse_callback(text)


def test_settings_of_a_callback_are_python_values_or_text():
    settings = parse_callback("a.b:C,factor=0.5,monitor=val_loss,names=None,on=True,n=3").settings
    assert settings == {"factor": 0.5, "monitor": "val_loss", "names": None, "on": True, "n": 3}


def read_board(folder):
    """(tags, steps of `step_loss`) of all event files."""
    tags, steps = set(), []
    for path in folder.rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
            steps += [event.step for value in event.summary.value if value.tag == "step_loss"]
    return tags, steps


def test_tensorboard_gets_steps_images_and_a_profile(digits, tmp_path):
    run = SmallRun(digits, tmp_path, epochs=2, augment="digits", tensorboard=True, profile=6)
    run.fit(make_callbacks(run.plan))
    tags, steps = read_board(tmp_path / "tensorboard")
    assert steps == [4, 8, 12, 13, 17, 21, 25, 26]
    assert {"step_loss", "step_learning_rate", "step_images_per_second", "augmented", "epoch_accuracy"} <= tags
    assert any("kernel" in tag and "histogram" in tag for tag in tags)
    assert list((tmp_path / "tensorboard/plugins/profile").rglob("*.xplane.pb"))


def test_tensorboard_is_a_callback_if_requested_and_installed(digits, tmp_path, monkeypatch):
    assert make_callbacks(SmallRun(digits, tmp_path).plan) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package tensorboard: python -m pip install"):
        make_callbacks(SmallRun(digits, tmp_path, tensorboard=True).plan)


def test_a_run_of_one_call_is_profiled_too(digits, tmp_path):
    run = SmallRun(digits, tmp_path, epochs=1, steps_per_call=13, profile=6)
    run.fit(make_callbacks(run.plan))
    assert list((tmp_path / "tensorboard/plugins/profile").rglob("*.xplane.pb"))


def test_mlflow_gets_settings_and_epochs_and_a_resumed_run_continues(digits, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    for epochs in (1, 2):
        run = SmallRun(digits, tmp_path / "run", epochs=epochs, schedule="constant", log_to=("mlflow",))
        (tmp_path / "run").mkdir(exist_ok=True)
        run.fit(make_callbacks(run.plan))
    client, run_id = mlflow.MlflowClient(), (tmp_path / "run/mlflow_run_id").read_text().strip()
    assert [metric.step for metric in client.get_metric_history(run_id, "val_accuracy")] == [1, 2]
    assert client.get_run(run_id).data.params["batch_size"] == "16"


def test_a_tracker_that_fails_during_training_does_not_end_it(digits, tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    run = SmallRun(digits, tmp_path, epochs=2, log_to=("mlflow",))
    (tracker,) = make_callbacks(run.plan)

    class Away(keras.callbacks.Callback):
        """As if the server were gone while an epoch ends."""

        def on_epoch_begin(self, epoch, logs=None):
            (tmp_path / "mlruns").rename(tmp_path / "away")

        def on_epoch_end(self, epoch, logs=None):
            shutil.rmtree(tmp_path / "mlruns", ignore_errors=True)
            (tmp_path / "away").rename(tmp_path / "mlruns")

    assert run.fit([tracker, Away()]).epoch == 2
    assert "warning: mlflow: not logged: " in capsys.readouterr().err


def test_a_place_that_mlflow_cannot_log_to_is_refused_before_training(digits, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "nowhere://x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    with pytest.raises(InputError, match="--log-to mlflow: cannot log to nowhere://x .*; set MLFLOW_TRACKING_URI"):
        make_callbacks(SmallRun(digits, tmp_path, log_to=("mlflow",)).plan)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_cannot_start_is_one_line(digits, tmp_path, monkeypatch, name):
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = SmallRun(digits, tmp_path, epochs=1, log_to=(name,))
    with pytest.raises(InputError, match=f"--log-to {name}: .*; check its server, or train without it$"):
        run.fit(make_callbacks(run.plan))


def test_wandb_writes_a_run_offline(digits, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = SmallRun(digits, tmp_path, epochs=1, log_to=("wandb",))
    run.fit(make_callbacks(run.plan))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_tracker_that_is_not_installed_is_named(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"--log-to mlflow needs the package mlflow: python -m pip install"):
        make_callbacks(SmallRun(digits, tmp_path, log_to=("mlflow",)).plan)
    with pytest.raises(InputError, match="--log-to x: choose one of mlflow, wandb"):
        SmallRun(digits, tmp_path, log_to=("x",))
