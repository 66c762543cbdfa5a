import keras
import numpy as np
import pytest

from models.layer_types import training_layers
from models.tutorial import make_tutorial


def test_it_has_the_keras_tutorials_parameters():
    model = make_tutorial((28, 28, 1), 10)
    assert model.count_params() == 887_530
    kinds = [type(layer).__name__ for layer in model.layers if "Dropout" in type(layer).__name__]
    assert kinds == ["Dropout"] * 3


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (5, 9, 2), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("classes", [2, 47])
def test_any_shape_and_class_count_gives_probabilities(shape, classes):
    probabilities = make_tutorial(shape, classes)(np.ones((3, *shape), np.float32)).numpy()
    assert probabilities.shape == (3, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_outputs_and_weights_are_float32_under_every_policy(policy):
    model = make_tutorial((8, 8, 1), 3, policy, training_layers())
    assert model.output.dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.layers[1].compute_dtype == keras.DTypePolicy(policy).compute_dtype
