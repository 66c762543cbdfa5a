"""Probabilities for every row once, and the command line of tools/predict.py."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.evaluate.predict import Predictions, in_batches, make_predictor
from pipeline.feed.normalize import Normalization
from tests.helpers.saved_runs import NORMALIZATION, SHAPE, expected, pixels, run_predict, tiny_model, write_home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


def rows(count):
    return pixels(count), np.full(count, -1), np.arange(count)


@pytest.mark.parametrize("sizes", [[23], [3, 10, 10], [1, 0, 12, 2, 8], [10, 10], []], ids=str)
def test_blocks_of_any_size_give_whole_batches_in_order(sizes):
    cuts = np.cumsum(sizes[:-1], dtype=int)
    blocks = zip(*(np.split(array, cuts) for array in rows(sum(sizes))), strict=True) if sizes else []
    batches = list(in_batches(blocks, 10))
    assert [len(ids) for _, _, ids in batches] == [10, 10, 3][: -(-sum(sizes) // 10)]
    for array, parts in zip(rows(sum(sizes)), zip(*batches, strict=True), strict=False):
        np.testing.assert_array_equal(np.concatenate(parts), array)


@pytest.mark.parametrize("batch_size", [1, 10, 23, 64])
def test_every_row_is_predicted_once_at_any_batch_size(batch_size):
    model, traces = tiny_model(), []
    model.call, call = lambda *args, **kwargs: (traces.append(1), call(*args, **kwargs))[1], model.call
    predict = make_predictor(model, NORMALIZATION, SHAPE, batch_size)
    probabilities = np.concatenate([values for _, values in predict([rows(23)], "run")])
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected(pixels(23)), atol=1e-6)
    assert len(traces) == 1, "compiled again for the smaller last batch"


def test_predictions_keep_what_is_needed_of_the_probabilities():
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1]], np.float32)
    predictions = Predictions.of(probabilities, np.array([0, 0, -1]))
    for array, joined in zip(predictions, Predictions.join([predictions, predictions]), strict=True):
        np.testing.assert_array_equal(joined, np.tile(array, 2))
    assert predictions.wrong.tolist() == [True, False, False]
    assert predictions.predicted.tolist() == [1, 0, 0]
    assert predictions.confidence == pytest.approx([0.8, 0.6, 0.9])
    assert predictions.label_probability == pytest.approx([0.2, 0.6, np.nan], nan_ok=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_diverged_model_is_reported_with_the_id(value):
    def model(images, training):
        return tf.where(tf.reshape(images, (10, 12))[:, :3] == 7, value, 0.5)

    images = np.zeros((10, 12), np.uint8)
    images[8, 1] = 7
    with pytest.raises(InputError, match="^split val: the model's output for id 8 is not a number.*diverged"):
        list(
            make_predictor(model, Normalization("standard", (0,), (1,)), SHAPE, 10)(
                [(images, *rows(10)[1:])], "split val"
            )
        )


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
