import keras
import numpy as np
import pytest

from models import NETWORKS, parse_network
from models.layer_types import training_layers
from models.tutorial import make_tutorial

SHAPES = [(8, 8, 1), (28, 28, 1), (64, 64, 3), (5, 9, 2), (1, 1, 1)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("classes", [2, 100])
def test_any_shape_and_class_count_gives_probabilities(name, shape, classes):
    probabilities = parse_network(name).load()(shape, classes)(np.ones((3, *shape), np.float32)).numpy()
    assert probabilities.shape == (3, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_outputs_and_weights_are_float32_under_every_policy(name, policy):
    model = parse_network(name).load()((8, 8, 1), 3, policy, training_layers())
    assert model.output.dtype == model.get_layer("logits").output.dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.layers[1].compute_dtype == keras.DTypePolicy(policy).compute_dtype


def test_tutorial_has_the_keras_tutorials_parameters():
    model = make_tutorial((28, 28, 1), 10)
    assert model.count_params() == 887_530
    kinds = [type(layer).__name__ for layer in model.layers if "Dropout" in type(layer).__name__]
    assert kinds == ["Dropout"] * 3


def test_residual_stays_below_a_million_parameters():
    assert parse_network("residual").load()((28, 28, 1), 10).count_params() < 1_000_000


def test_settings_of_a_network_change_it():
    narrow, usual = (parse_network(name).load()((28, 28, 1), 10) for name in ("residual,width=8", "residual"))
    assert narrow.count_params() < usual.count_params() / 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet", "choose one of tutorial, fast, residual, or package.module:function"),
        ("residual,width", "'width' is not a setting such as width=48"),
        ("residual,width=wide", "'width=wide' is not a setting such as width=48"),
        ("residual,width=4,width=8", "width is given twice"),
        ("residual,depth=3", "it has no setting depth; it has width, pairs, dropout"),
        ("no.such:thing", "cannot import it .No module named 'no'.; give package.module:function"),
        ("models.fast:make_slow", "cannot import it .*make_slow"),
    ],
)
def test_a_network_that_does_not_exist_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_network(text).load()
