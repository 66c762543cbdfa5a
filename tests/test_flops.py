import keras
import pytest

from models.cnn import make_cnn
from pipeline.benchmark.flops import make_matmul, training_flops


def test_operations_of_the_network_are_as_counted_by_hand():
    # 2 * kernel * inputs * outputs * places: two convolutions on 28x28, two on 14x14, then 7*7*64 -> 256 -> 10.
    convolutions = 2 * (25 * 1 * 32 * 784 + 25 * 32 * 32 * 784 + 9 * 32 * 64 * 196 + 9 * 64 * 64 * 196)
    forward = convolutions + 2 * (3136 * 256 + 256 * 10)
    assert forward == 64_681_984
    assert training_flops(make_cnn((28, 28, 1), 10)) == 3 * forward


def test_strides_and_groups_are_counted():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, keras.layers.Conv2D(6, 3, strides=2, groups=2, padding="same")(inputs))
    assert training_flops(model) == 3 * 2 * (9 * 2 * 6) * 16


def test_a_layer_that_cannot_be_counted_is_named():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, keras.layers.Conv2DTranspose(6, 3, name="up")(inputs))
    with pytest.raises(ValueError, match="up: cannot count the operations of a Conv2DTranspose layer"):
        training_flops(model)


def test_matmul_returns_its_operations():
    assert make_matmul("float32")() == 8 * 2 * 1024**3
