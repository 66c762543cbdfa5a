"""Probabilities for every row once, and the command line of tools/predict.py."""

import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluate.predict import Predictions, check_finite, make_predictor
from tests.helpers.saved_runs import NORMALIZATION, SHAPE, expected, pixels, run_predict, tiny_model, write_home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("batch_size", [1, 10, 23, 64])
@pytest.mark.parametrize("rows", [0, 1, 23])
def test_every_row_is_predicted_once_at_any_batch_size(rows, batch_size):
    probabilities = make_predictor(tiny_model(), NORMALIZATION, SHAPE, batch_size)(pixels(rows))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected(pixels(rows)), atol=1e-6)


def test_predictor_is_traced_once():
    model = tiny_model()
    traces = []
    model.call, call = lambda *args, **kwargs: (traces.append(1), call(*args, **kwargs))[1], model.call
    predictor = make_predictor(model, NORMALIZATION, SHAPE, 10)
    for rows in (3, 10, 23):
        predictor(pixels(rows))
    assert len(traces) == 1


def test_predictions_keep_what_is_needed_of_the_probabilities():
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1]], np.float32)
    parts = [Predictions.of(probabilities[:2], np.array([0, 0])), Predictions.of(probabilities[2:], np.array([-1]))]
    predictions = Predictions.join(parts)
    assert predictions.predicted.tolist() == [1, 0, 0]
    assert predictions.confidence == pytest.approx([0.8, 0.6, 0.9])
    assert predictions.label_probability == pytest.approx([0.2, 0.6, np.nan], nan_ok=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_diverged_model_is_reported_with_the_id(value):
    probabilities = np.array([[0.5, 0.5], [0.1, value]], np.float32)
    with pytest.raises(InputError, match="^split val: the model's output for id 8 is not a number.*diverged"):
        check_finite(probabilities, np.array([7, 8]), "split val")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--csv", "in.txt", "--split", "val"], "a CSV has no splits"),
        (["--data", "data", "--no-header"], "omit them with --data"),
        (["--data", "data", "--batch-size", "0"], "--batch-size 0"),
    ],
)
def test_bad_options_are_refused(home, tmp_path, args, message):
    with pytest.raises(InputError, match=message):
        run_predict(home, tmp_path, *args, split=None)


def test_help_imports_nothing_heavy():
    heavy = "('tensorflow', 'keras', 'pandas', 'matplotlib', 'sklearn', 'rich', 'msgspec')"
    code = f"""
import sys
from tools import predict
try:
    predict.main(["--help"])
except SystemExit:
    assert not [name for name in {heavy} if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--probabilities" in done.stdout
