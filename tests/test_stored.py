import keras
import pytest

from models.layer_types import training_layers
from models.tutorial import make_tutorial
from pipeline.train.stored import network_fingerprint


def network(filters=4, padding="same", names="ab"):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(filters, 3, padding=padding, name=names[0]),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name=names[1]),
        ]
    )


def test_names_and_earlier_models_do_not_change_it():
    assert network_fingerprint(network()) == network_fingerprint(network(names="xy"))


@pytest.mark.parametrize("change", [{"filters": 5}, {"padding": "valid"}], ids=lambda change: next(iter(change)))
def test_settings_and_shapes_change_it(change):
    assert network_fingerprint(network(**change)) != network_fingerprint(network())


def test_the_networks_own_is_pinned_and_equal_under_every_precision():
    # When this changes, earlier runs cannot be resumed: change it with the network only.
    for dtype in ("float32", "mixed_bfloat16"):
        model = make_tutorial((28, 28, 1), 10, dtype, training_layers())
        assert network_fingerprint(model) == "887,530 parameters (b3ad57172037)"
