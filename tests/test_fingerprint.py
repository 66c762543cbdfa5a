import keras
import pytest

from models.cnn import make_cnn
from models.dropout import StepDropout
from models.fingerprint import network_fingerprint


def network(filters=4, padding="same", names="ab"):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(filters, 3, padding=padding, name=names[0]),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name=names[1]),
        ]
    )


def test_it_does_not_see_names_or_what_was_built_before():
    assert network_fingerprint(network()) == network_fingerprint(network(names="xy"))


@pytest.mark.parametrize("change", [{"filters": 5}, {"padding": "valid"}], ids=lambda change: next(iter(change)))
def test_it_sees_settings_and_shapes(change):
    assert network_fingerprint(network(**change)) != network_fingerprint(network())


def test_the_networks_own_is_known_and_the_same_under_every_precision():
    # When this changes, runs that were begun before are refused: change it with the network only.
    for dtype in ("float32", "mixed_bfloat16"):
        model = make_cnn((28, 28, 1), 10, dtype, StepDropout)
        assert network_fingerprint(model) == "887,530 parameters (b3ad57172037)"
