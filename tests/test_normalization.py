import keras
import numpy as np
import pytest
import tensorflow as tf

from models.normalization import StepNormalization
from models.step_state import StepState, step_state


def state(weight=None, share=None):
    return StepState(0, tf.constant(0, tf.int64), tf.constant(0), weight, share)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(3, 2, (6, 4, 5, 3)).astype(np.float32)


def normalize(images, **fields):
    """Outputs, moving mean and variance, and gradient of a new layer's gamma, trained on the images once."""
    layer = StepNormalization(momentum=0.5)
    layer.build(images.shape)
    with tf.GradientTape() as tape, step_state(state(**fields)):
        outputs = layer(tf.constant(images), training=True)
        loss = tf.reduce_sum(outputs[:4] ** 3)
    gradient = tape.gradient(loss, layer.gamma.value)
    return [np.asarray(value) for value in (outputs, layer.moving_mean, layer.moving_variance, gradient)]


def test_it_computes_what_kerass_layer_does(images):
    outputs, mean, variance, _ = normalize(images)
    keras_layer = keras.layers.BatchNormalization(momentum=0.5)
    np.testing.assert_allclose(outputs, keras_layer(images, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, keras_layer.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(variance, 0.5 + 0.5 * images.var(axis=(0, 1, 2), ddof=1), rtol=1e-5)


def test_features_without_a_height_and_width_are_normalized_too(images):
    features = images[:, 0, 0]
    keras_layer = keras.layers.BatchNormalization(momentum=0.5)
    np.testing.assert_allclose(normalize(features)[0], keras_layer(features, training=True), rtol=1e-4, atol=1e-5)


def test_padding_rows_change_nothing(images):
    padded = np.concatenate([images[:4], np.full_like(images[:2], 99)])
    weight = tf.constant([1.0, 1, 1, 1, 0, 0])
    expected = normalize(images[:4])
    result = normalize(padded, weight=weight)
    np.testing.assert_allclose(result[0][:4], expected[0], rtol=1e-4, atol=1e-5)
    for values, wanted in zip(result[1:], expected[1:], strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-4)


def test_a_full_batch_gives_the_same_by_either_way(images):
    sums = normalize(images, weight=tf.ones(6))
    for values, wanted in zip(sums, normalize(images), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-4)


def test_replicas_have_the_statistics_of_the_whole_batch(images):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        layer = StepNormalization(momentum=0.5)
        layer.build(images.shape)
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(images[3 * context.replica_id_in_sync_group :][:3])
    )

    @tf.function
    def run(parts):
        def replica(part):
            with step_state(state(weight=tf.ones(3))):
                return layer(part, training=True)

        return strategy.run(replica, args=(parts,))

    outputs = np.concatenate(strategy.experimental_local_results(run(parts)))
    expected, mean, variance, _ = normalize(images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(layer.moving_mean), mean, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(layer.moving_variance), variance, rtol=1e-5)


def test_a_share_makes_the_statistics_a_mean_over_batches(images):
    layer = StepNormalization()
    layer.build(images.shape)
    for batch, rows in enumerate((images[:3], images[3:])):
        with step_state(state(share=tf.constant(1 / (1 + batch), tf.float32))):
            layer(tf.constant(rows), training=True)
    np.testing.assert_allclose(np.asarray(layer.moving_mean), images.mean(axis=(0, 1, 2)), rtol=1e-4)


def test_without_training_it_uses_what_it_has_learned_as_kerass_layer_does(images):
    layer, keras_layer = StepNormalization(), keras.layers.BatchNormalization()
    for each in (layer, keras_layer):
        each.build(images.shape)
        each.set_weights([np.full(3, value, np.float32) for value in (2, 1, 3, 4)])
    np.testing.assert_allclose(layer(images), keras_layer(images), rtol=1e-5, atol=1e-5)
