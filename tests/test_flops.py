import keras
import pytest

from models.cnn import make_cnn
from pipeline.benchmark.flops import data_sheet_peak, make_matmul, training_flops


def test_the_articles_network_is_as_counted_by_hand():
    # 2 * kernel * inputs * outputs * places: two convolutions on 28x28, two on 14x14, then 7*7*64 -> 256 -> 10.
    convolutions = 2 * (25 * 1 * 32 * 784 + 25 * 32 * 32 * 784 + 9 * 32 * 64 * 196 + 9 * 64 * 64 * 196)
    forward = convolutions + 2 * (3136 * 256 + 256 * 10)
    assert forward == 64_681_984
    assert training_flops(make_cnn((28, 28, 1), 10)) == 3 * forward


def test_strides_and_groups_are_in_the_count():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, keras.layers.Conv2D(6, 3, strides=2, groups=2, padding="same")(inputs))
    assert training_flops(model) == 3 * 2 * (9 * 2 * 6) * 16


def test_a_layer_that_cannot_be_counted_is_named():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, keras.layers.Conv2DTranspose(6, 3, name="up")(inputs))
    with pytest.raises(ValueError, match="up: operations of a Conv2DTranspose are not known"):
        training_flops(model)


@pytest.mark.parametrize(
    ("gpus", "dtype", "tera"),
    [
        (["Tesla T4"], "float16", 65),
        (["Tesla T4"], "bfloat16", None),
        (["NVIDIA A100-SXM4-40GB"] * 2, "bfloat16", 624),
        (["NVIDIA H100 80GB HBM3"], "float32", 494.5),
        (["NVIDIA GeForce RTX 4090"], "float16", 165.2),
        (["NVIDIA GeForce RTX 4090 Laptop GPU"], "float16", None),
        (["NVIDIA A10G"], "float32", None),
        (["NVIDIA A100-SXM4-40GB MIG 1g.5gb"], "float32", None),
        (["Tesla T4", "Some GPU"], "float32", None),
    ],
)
def test_the_data_sheets_are_found_by_the_whole_name(gpus, dtype, tera):
    peak = data_sheet_peak(gpus, dtype)
    assert (peak and peak.flops_per_second) == (tera and pytest.approx(tera * 1e12))


def test_without_tf32_float32_is_the_plain_rate():
    assert data_sheet_peak(["NVIDIA L4"], "float32", tensor_float_32=False).flops_per_second == 30.3e12


def test_a_matmul_returns_its_operations():
    assert make_matmul("float32")() == 8 * 2 * 1024**3
