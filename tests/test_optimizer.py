import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.train.optimizer import OneCycle, make_optimizer
from pipeline.train.recipe import Recipe


def strategy_of(replicas):
    names = [f"CPU:{index}" for index in range(replicas)]
    return tf.distribute.MirroredStrategy(names, tf.distribute.ReductionToOneDevice())


def step(optimizer, strategy, variable, gradients):
    """One step, in which each replica has a gradient of its own."""
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(gradients[context.replica_id_in_sync_group])
    )
    tf.function(lambda: strategy.run(lambda part: optimizer.apply([part], [variable]), args=(parts,)))()


def make(replicas=1, **recipe):
    strategy = strategy_of(replicas)
    with strategy.scope():
        variable = keras.Variable(np.ones(3, np.float32), name="kernel")
        optimizer = make_optimizer(Recipe(**{"schedule": "constant", "ema": 0.0, **recipe}), 10, "float32")
        optimizer.build([variable])
    return optimizer, strategy, variable


def test_one_cycle_rises_and_falls_in_lines():
    rates = [float(OneCycle(0.6, 3, 9)(step)) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0])


def test_the_sum_over_replicas_is_clipped():
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0, "clip_norm": 1.0}
    optimizer, strategy, variable = make(2, **settings)
    step(optimizer, strategy, variable, [[6.0, 0, 0], [0, 8.0, 0]])
    np.testing.assert_allclose(1 - np.asarray(variable), [0.6, 0.8, 0], rtol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_average_follows_its_rule(replicas):
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0, "ema": 0.15}
    optimizer, strategy, variable = make(replicas, **settings)
    average, weights = np.zeros(3), np.ones(3)
    for count in range(3):
        step(optimizer, strategy, variable, [[1.0 / replicas, 0, 0]] * replicas)
        weights = weights - [1, 0, 0]
        momentum = min(0.15, (1 + count) / (10 + count)) if count else 0  # from the first weights on
        average = momentum * average + (1 - momentum) * weights
    np.testing.assert_allclose(np.asarray(optimizer._model_variables_moving_average[0]), average, rtol=1e-5)


def test_weight_decay_is_for_kernels_only():
    settings = {"optimizer": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, bias_initializer="ones")])
    optimizer = make_optimizer(Recipe(**{"schedule": "constant", **settings}), 10, "float32")
    optimizer.build(model.trainable_variables)
    kernel, bias = model.get_weights()
    optimizer.apply([tf.zeros_like(variable) for variable in model.trainable_variables], model.trainable_variables)
    np.testing.assert_allclose(model.get_weights()[0], kernel * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[1], bias)


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", "_Adam"), ("adamw", "_AdamW"), ("sgd", "_Sgd")])
def test_the_recipe_names_the_optimizer(optimizer, kind):
    assert type(make_optimizer(Recipe(optimizer=optimizer), 10, "float32")).__name__ == kind
    assert type(make_optimizer(Recipe(optimizer=optimizer), 10, "mixed_float16").inner_optimizer).__name__ == kind


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_fused_update_is_kerass(name, replicas):
    settings = {"optimizer": name, "learning_rate": 0.1, "momentum": 0.8, "beta_2": 0.95, "weight_decay": 0.3}
    optimizer, strategy, variable = make(replicas, **settings)
    options = {"weight_decay": 0.3} if name == "adamw" else {}
    expected = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[name](
        0.1, beta_1=0.8, beta_2=0.95, **options
    )
    other = keras.Variable(np.ones(3, np.float32))
    expected.build([other])
    for count in range(4):
        gradient = np.array([1.0, -2, 0.1 * count], np.float32)
        step(optimizer, strategy, variable, [gradient / replicas] * replicas)
        expected.apply([tf.constant(gradient)], [other])
    np.testing.assert_allclose(np.asarray(variable), np.asarray(other), rtol=1e-5)
