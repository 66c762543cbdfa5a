import numpy as np
import pytest
import tensorflow as tf

from pipeline.feed.normalize import Normalization

PIXELS = np.arange(2 * 3 * 2 * 3, dtype=np.uint8).reshape(2, 3, 2, 3) * 7
CASES = {
    "unit": (Normalization(), PIXELS / 255),
    "standard, a channel each": (
        Normalization("standard", (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)),
        (PIXELS - np.array([10.0, 20, 30])) / [2, 4, 5],
    ),
    "a channel that never varies": (Normalization("standard", (7.0,), (0.0,)), PIXELS - 7.0),
}


@pytest.mark.parametrize(("normalization", "expected"), CASES.values(), ids=CASES)
def test_it_is_the_same_eagerly_and_in_tf_data(normalization, expected):
    eager = normalization.apply(PIXELS)
    piped = next(iter(tf.data.Dataset.from_tensors(PIXELS).map(normalization.apply)))
    assert eager.dtype == tf.float32
    np.testing.assert_allclose(eager, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(piped, expected, rtol=1e-6, atol=1e-6)


def test_it_computes_in_float32_and_rounds_once():
    exact = tf.cast(Normalization().apply(PIXELS), tf.bfloat16)
    np.testing.assert_array_equal(
        tf.cast(Normalization().apply(PIXELS, "bfloat16"), tf.float32), tf.cast(exact, tf.float32)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("normalization", [case[0] for case in CASES.values()], ids=CASES)
def test_the_fused_kernel_gives_the_same_bits_for_every_byte(normalization, dtype):
    every = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones(len(normalization.mean) or 1, np.uint8)
    plain, fused = (
        tf.cast(apply(every, dtype), tf.float32) for apply in (normalization.apply, normalization.apply_on_cpu)
    )
    np.testing.assert_array_equal(plain, fused)


def test_it_survives_json():
    normalization = Normalization("standard", (1.5,), (2.5,))
    assert Normalization.from_dict({**normalization.to_dict(), "mean": [1.5], "std": [2.5]}) == normalization


@pytest.mark.parametrize(
    ("kind", "mean", "message"),
    [
        ("minmax", (), "must be one of"),
        ("standard", (), "needs a mean and a std"),
        ("standard", (1.0, 2.0), "needs a mean"),
    ],
)
def test_bad_settings_are_refused(kind, mean, message):
    with pytest.raises(ValueError, match=message):
        Normalization(kind, mean, (1.0,))
