import json

import msgspec
import numpy as np
import pytest
import tensorflow as tf

from pipeline.feed.normalize import Normalization

PIXELS = np.arange(2 * 3 * 2 * 3, dtype=np.uint8).reshape(2, 3, 2, 3) * 7
CASES = {
    "unit": (Normalization(), PIXELS / 255),
    "standard, per channel": (
        Normalization("standard", (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)),
        (PIXELS - np.array([10.0, 20, 30])) / [2, 4, 5],
    ),
    "a channel that never varies": (Normalization("standard", (7.0,), (0.0,)), PIXELS - 7.0),
}


@pytest.mark.parametrize(("normalization", "expected"), CASES.values(), ids=CASES)
def test_result_is_that_of_numpy_eagerly_and_in_tf_data(normalization, expected):
    eager = normalization.apply(PIXELS)
    piped = next(iter(tf.data.Dataset.from_tensors(PIXELS).map(normalization.apply)))
    assert eager.dtype == tf.float32
    np.testing.assert_allclose(eager, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(piped, eager)
    # Computed in float32, so that lower precision rounds once.
    np.testing.assert_array_equal(normalization.apply(PIXELS, "float16"), eager.numpy().astype("float16"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("normalization", [case[0] for case in CASES.values()], ids=CASES)
def test_fused_kernel_gives_the_same_bits_for_every_byte(normalization, dtype):
    every = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones(len(normalization.mean) or 1, np.uint8)
    plain, fused = (
        tf.cast(apply(every, dtype), tf.float32) for apply in (normalization.apply, normalization.apply_on_cpu)
    )
    np.testing.assert_array_equal(plain, fused)


def test_json_restores_it():
    normalization = Normalization("standard", (1.5,), (2.0,))
    assert msgspec.json.decode(json.dumps(normalization.to_dict()), type=Normalization) == normalization


STANDARD = {"kind": "standard", "mean": [1.0], "std": [1.0]}


@pytest.mark.parametrize(
    "raw", [{**STANDARD, "kind": ["unit"]}, {**STANDARD, "mean": 1}, {**STANDARD, "mean": ["1"]}, []]
)
def test_invalid_json_is_a_value_error(raw):
    with pytest.raises(ValueError, match="Expected"):
        msgspec.convert(raw, Normalization)


@pytest.mark.parametrize(
    ("kind", "mean", "std", "message"),
    [
        ("minmax", (), (), "must be one of"),
        ("standard", (), (1.0,), "needs a mean and a std"),
        ("standard", (1.0, 2.0), (1.0,), "needs a mean and a std"),
        ("standard", (float("inf"),), (1.0,), "must be finite"),
        ("standard", (1.0,), (float("nan"),), "must be finite"),
        ("standard", (1.0,), (-1.0,), "0 or more"),
    ],
)
def test_invalid_settings_are_refused(kind, mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalization(kind, mean, std)
