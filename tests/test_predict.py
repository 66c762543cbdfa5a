"""Probabilities for every row once, and the command line of tools/predict.py."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.evaluate.predict import Predictions, average_predictors, in_batches, make_predictor, shifted_views
from pipeline.evaluate.saved_run import takes_pixels
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
    predict = make_predictor(takes_pixels(model, NORMALIZATION), SHAPE, batch_size)
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


def probabilities_of(predictor, blocks):
    return np.concatenate([values for _, values in predictor(blocks, "run")])


def test_average_is_the_mean_of_the_predictors_on_the_same_rows():
    normalizations = NORMALIZATION, Normalization("unit"), Normalization("standard", (10.0,), (90.0,))
    models = [takes_pixels(tiny_model(), normalization) for normalization in normalizations]
    predictors = [make_predictor(model, SHAPE, 10) for model in models]
    cuts = [4, 4, 17]
    blocks = lambda: iter(list(zip(*(np.split(array, cuts) for array in rows(23)), strict=True)))  # noqa: E731
    alone = [probabilities_of(predictor, blocks()) for predictor in predictors]
    batches = list(average_predictors(predictors)(blocks(), "runs"))
    assert [len(ids) for (_, _, ids), _ in batches] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([ids for (_, _, ids), _ in batches]), np.arange(23))
    average = np.concatenate([values for _, values in batches])
    assert average.dtype == np.float32
    np.testing.assert_allclose(average, np.mean(alone, axis=0), atol=1e-6)
    assert abs(alone[0] - alone[1]).max() > 0.05, "the predictors must differ"


def test_average_of_one_predictor_changes_no_bit():
    predictor = make_predictor(takes_pixels(tiny_model(), NORMALIZATION), SHAPE, 10)
    average = average_predictors([predictor])
    np.testing.assert_array_equal(probabilities_of(average, [rows(23)]), probabilities_of(predictor, [rows(23)]))


def test_average_reads_a_long_source_block_by_block():
    read = []

    def blocks():
        for k in range(100):
            read.append(k)
            yield rows(10)

    predictors = [make_predictor(takes_pixels(tiny_model(), NORMALIZATION), SHAPE, 10)] * 2
    stream = average_predictors(predictors)(blocks(), "runs")
    next(stream)
    assert len(read) <= 2


@pytest.mark.parametrize("shape", [(4, 3, 1), (1, 5, 2), (3, 1, 3)], ids=str)
def test_views_are_shifted_by_one_pixel(shape):
    images = np.random.default_rng(0).integers(0, 256, (6, np.prod(shape))).astype(np.uint8)
    first, up, down, left, right = (view.reshape(-1, *shape) for view in shifted_views(images, shape))
    whole = images.reshape(-1, *shape)
    np.testing.assert_array_equal(first, whole)
    np.testing.assert_array_equal(up, np.concatenate([whole[:, 1:], whole[:, -1:]], axis=1))
    np.testing.assert_array_equal(down, np.concatenate([whole[:, :1], whole[:, :-1]], axis=1))
    np.testing.assert_array_equal(left, np.concatenate([whole[:, :, 1:], whole[:, :, -1:]], axis=2))
    np.testing.assert_array_equal(right, np.concatenate([whole[:, :, :1], whole[:, :, :-1]], axis=2))


@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_shifts_average_over_the_shifted_images(batch_size):
    images = pixels(23)
    views = [expected(view) for view in shifted_views(images, SHAPE)]
    predictor = make_predictor(takes_pixels(tiny_model(), NORMALIZATION), SHAPE, batch_size, shifts=True)
    np.testing.assert_allclose(probabilities_of(predictor, [rows(23)]), np.mean(views, axis=0), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_diverged_model_is_reported_with_the_id(value):
    def model(images, training):
        return tf.where(tf.reshape(images, (10, 12))[:, :3] == 7, value, 0.5)

    images = np.zeros((10, 12), np.uint8)
    images[8, 1] = 7
    with pytest.raises(InputError, match="^split val: the model's output for id 8 is not a number.*diverged"):
        list(make_predictor(model, SHAPE, 10)([(images, *rows(10)[1:])], "split val"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--csv", "in.txt", "--split", "val"], "only data sets have splits"),
        (["--data", "data", "--no-header"], "--no-header is for --csv"),
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
