import pytest
import tensorflow as tf

from pipeline.benchmark.feed import consume_in_function
from tests.helpers.benchmarks import run

ROWS = {
    *("read", "load", "order", "resident_uint8_k13", "resident_uint8_k1", "resident_float32_k13"),
    *("resident_float32_k1", "resident_uint8_on_devices", "indices", "stream_uint8", "stream_float32"),
    *("numpy_uint8", "numpy_float32", "memcpy"),
    *("textbook_float32", "textbook_cached_uint8", "textbook_cached_float32", "keras_arrays_uint8"),
}


def test_every_stage_is_measured_next_to_the_baselines(digits, tmp_path):
    # 51 steps in as few calls of at most 16 as hold them, and calls of one step.
    results = run(tmp_path, "feed", "--data", digits, "--batch-size", 4, "--steps-per-call", 16)
    rows = results["rows"]
    assert rows.keys() - {"tfds_cached_float32"} == ROWS
    assert all(row["images_per_second"] > 0 for row in rows.values())
    assert results["ratios"].keys() >= {
        ("resident_uint8_k13", "textbook_cached_uint8"),
        ("resident_uint8_k1", "keras_arrays_uint8"),
        ("resident_float32_k1", "numpy_float32"),
        ("stream_float32", "textbook_float32"),
    }


@pytest.mark.parametrize(("images_per_element", "elements"), [(1 << 13, 2), (1 << 20, 1), (1, 64)])
def test_images_per_reading_of_the_clock_are_limited(images_per_element, elements):
    dataset = tf.data.Dataset.range(1000)
    assert consume_in_function(dataset, lambda _: tf.constant(1), images_per_element)() == elements
