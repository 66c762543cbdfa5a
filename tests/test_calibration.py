"""The temperature that is fitted, the model it is folded into, and the calibration error, against worked examples."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from pipeline.errors import InputError
from pipeline.evaluate import calibration
from pipeline.evaluate.calibration import calibrate, expected_calibration_error, find_logits, fit_temperature
from tests.helpers.saved_runs import NORMALIZATION, SHAPE, pixels

ROWS, CLASSES = 400, 3


def model_of(head, name="logits", scale=6.0):
    """A network of one dense layer, `head`ed by what makes probabilities of its output."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(CLASSES, name=name)
    model = keras.Model(inputs, head(dense(keras.layers.Flatten()(inputs))))
    dense.set_weights([scale * dense.kernel.numpy(), np.array([0.5, 0, -1])])
    return model


@pytest.fixture
def model():
    return model_of(keras.layers.Softmax())


def predict(model, images):
    return model.predict(np.asarray(NORMALIZATION.apply(images.reshape(-1, *SHAPE))), verbose=0)


def logits_of(model, images):
    inner = keras.Model(model.input, model.get_layer("logits").output)
    return predict(inner, images)


def labels_drawn_from(probabilities):
    """One label per row, drawn with these probabilities."""
    draws = np.random.default_rng(0).random((len(probabilities), 1))
    return (probabilities.cumsum(axis=1) < draws).sum(axis=1).clip(0, probabilities.shape[1] - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_known_temperature_is_recovered(temperature):
    logits = np.random.default_rng(1).normal(0, 3, (40_000, 10)).astype(np.float32)
    labels = labels_drawn_from(softmax(logits.astype(np.float64) / temperature, axis=1))
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.02)


def test_logarithms_of_probabilities_give_the_same_temperature():
    logits = np.random.default_rng(1).normal(0, 3, (1000, 4))
    labels = labels_drawn_from(softmax(logits / 2, axis=1))
    assert fit_temperature(np.log(softmax(logits, axis=1)), labels) == pytest.approx(fit_temperature(logits, labels))


def test_calibrated_model_gives_the_softmax_of_logits_over_temperature(model):
    images = pixels(ROWS)
    logits = logits_of(model, images)
    labels = labels_drawn_from(softmax(logits / 2, axis=1))
    result, _ = calibrate(model, NORMALIZATION, (images, labels, np.arange(ROWS)), "val", batch_size=64)
    assert result.temperature == pytest.approx(fit_temperature(logits, labels), rel=1e-4) and result.temperature > 1.3
    np.testing.assert_allclose(predict(model, images), softmax(logits / result.temperature, axis=1), atol=1e-5)
    np.testing.assert_array_equal(predict(model, images).argmax(axis=1), logits.argmax(axis=1))


def test_calibration_reports_loss_and_error_before_and_after(model):
    images = pixels(ROWS)
    before = predict(model, images)
    labels = labels_drawn_from(softmax(np.log(before) / 2, axis=1))
    result, _ = calibrate(model, NORMALIZATION, (images, labels, np.arange(ROWS)), "val", batch_size=64)
    for probabilities, loss, ece in (
        (before, result.uncalibrated_loss, result.uncalibrated_ece),
        (predict(model, images), result.loss, result.ece),
    ):
        correct = probabilities.argmax(axis=1) == labels
        assert loss == pytest.approx(-np.log(probabilities[np.arange(ROWS), labels]).mean(), rel=1e-4)
        assert ece == pytest.approx(expected_calibration_error(probabilities.max(axis=1), correct), abs=1e-4)
    assert result.loss < result.uncalibrated_loss
    assert result.text.startswith(f"calibration: temperature {result.temperature:.3f} from 400 rows of val; log loss ")


def test_temperature_comes_from_evenly_spread_rows_of_a_long_split(model, monkeypatch):
    monkeypatch.setattr(calibration, "_MAX_ROWS", 100)
    images = pixels(ROWS)
    logits = logits_of(model, images)
    labels = labels_drawn_from(softmax(logits / 2, axis=1))
    result, known = calibrate(model, NORMALIZATION, (images, labels, np.arange(ROWS)), "val", batch_size=64)
    assert result.num_examples == len(known.rows) == 100
    np.testing.assert_allclose(known.probabilities, predict(model, images[known.rows]), atol=1e-5)
    assert result.temperature == pytest.approx(fit_temperature(logits[::4], labels[::4]), rel=1e-4)


def unchanged(model, labels):
    weights, images = model.get_weights(), pixels(ROWS)
    result, _ = calibrate(model, NORMALIZATION, (images, labels, np.arange(ROWS)), "val", batch_size=64)
    assert result.temperature == 1
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    return result.text


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (keras.layers.Softmax(), "scores"),
        (lambda x: keras.layers.Softmax()(keras.layers.Activation("relu")(x)), "logits"),
        (lambda x: keras.layers.Activation("linear", name="logits")(x), "scores"),
        (lambda x: keras.layers.Softmax()(keras.layers.LayerNormalization(name="logits")(x)), "scores"),
    ],
    ids=["no layer of that name", "layer in between", "no softmax", "not a Dense layer"],
)
def test_other_networks_stay_as_they_are(head, name):
    text = unchanged(model_of(head, name), np.zeros(ROWS, int))
    assert text == "calibration: none (the output is not the softmax of a Dense layer named logits)"


def test_dense_layer_with_an_activation_stays_as_it_is():
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dense(CLASSES, activation="tanh", name="logits")(keras.layers.Flatten()(inputs))
    assert find_logits(keras.Model(inputs, keras.layers.Softmax()(x))) is None


def test_dense_layer_without_bias_is_calibrated():
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dense(CLASSES, use_bias=False, name="logits")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    logits = logits_of(model, pixels(5))
    calibration.fold_temperature(find_logits(model), 4.0)
    np.testing.assert_allclose(logits_of(model, pixels(5)), logits / 4)


def test_model_without_errors_stays_as_it_is(model):
    labels = predict(model, pixels(ROWS)).argmax(axis=1)
    assert unchanged(model, labels) == "calibration: none (all 400 rows of val are right)"


def test_logits_that_are_not_numbers_are_refused(model):
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    with pytest.raises(InputError, match="^split val: the model's output for id 0 is not a number"):
        calibrate(model, NORMALIZATION, (pixels(5), np.zeros(5, int), np.arange(5)), "val", batch_size=64)


def test_calibration_error_of_a_small_case():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55], np.float32)
    correct = np.array([True, True, True, False, True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05)


def test_calibration_error_agrees_with_a_loop_over_the_bins():
    rng = np.random.default_rng(2)
    confidence = rng.random(500) ** 0.3
    correct = rng.random(500) < confidence**2
    expected = 0.0
    for k in range(15):
        rows = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if rows.any():
            expected += rows.mean() * abs(correct[rows].mean() - confidence[rows].mean())
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)


def test_bins_hold_their_upper_edge():
    rows = calibration.reliability(np.array([0.0, 1 / 15, 0.0667, 1.0]), np.array([False, True, True, True]))
    assert rows[:, 0].tolist() == [2, 1, *[0] * 12, 1]
    assert rows[0].tolist() == pytest.approx([2, 1 / 30, 1 / 2])
    assert rows[2].tolist() == [0, 0, 0]
