import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.convert.examples import read_examples
from pipeline.format.records import UNLABELLED, RecordLayout

LAYOUT = RecordLayout(6)


def examples(n=5):
    images = np.arange(n * 6, dtype=np.uint8).reshape(n, 6)
    return images, np.arange(n) - 1, np.arange(n) * 10**15


def test_records_decode_to_what_was_encoded():
    for got, expected in zip(LAYOUT.decode(LAYOUT.encode(*examples())), examples(), strict=True):
        np.testing.assert_array_equal(got, expected)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_int64_comes_back(values):
    ids = np.array(values, np.int64)
    images = np.zeros((len(ids), 6), np.uint8)
    _, labels, decoded = LAYOUT.decode(LAYOUT.encode(images, ids[::-1], ids))
    assert decoded.tolist() == values
    assert labels.tolist() == values[::-1]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (28, 28, 1), (64, 64, 3)])
def test_tensorflow_reads_the_records_as_ordinary_examples(tmp_path, shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, int(np.prod(shape))), np.uint8)
    labels, ids = np.array([0, 9, UNLABELLED, 300]), np.array([0, 1, 127, 2**63 - 1])
    path = tmp_path / "x.tfrecord"
    path.write_bytes(RecordLayout(images.shape[1]).encode(images, labels, ids).tobytes())
    (parsed,) = read_examples(path, shape)
    np.testing.assert_array_equal(parsed.images, images)
    np.testing.assert_array_equal(parsed.labels, labels)
    np.testing.assert_array_equal(parsed.ids, ids)


def test_a_record_is_an_example_with_the_three_features_and_nothing_else():
    import tensorflow as tf

    record = LAYOUT.encode(*examples())[1]
    example = tf.train.Example.FromString(record[12:-4].tobytes())
    assert {key: value.WhichOneof("kind") for key, value in example.features.feature.items()} == {
        "image": "bytes_list",
        "label": "int64_list",
        "id": "int64_list",
    }
    assert example.features.feature["image"].bytes_list.value[0] == bytes(range(6, 12))


def test_whole_records_are_not_broken():
    assert LAYOUT.first_broken(LAYOUT.encode(*examples())) is None


def test_a_flipped_bit_anywhere_in_a_record_is_found():
    records = LAYOUT.encode(*examples(3))
    for place in range(LAYOUT.stride):
        damaged = records.copy()
        damaged[1, place] ^= 4
        assert LAYOUT.first_broken(damaged) == 1, place


def test_slices_and_constant_bytes_cover_a_record_once():
    covered = LAYOUT.constant.astype(int)
    for part in LAYOUT.slices.values():
        covered[part] += 1
    assert covered[:-4].tolist() == [1] * (LAYOUT.stride - 4)
