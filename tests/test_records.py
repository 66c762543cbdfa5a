import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipeline.format.records import UNLABELLED, RecordLayout

LAYOUT = RecordLayout(6)


def rows(n=5):
    images = np.arange(n * 6, dtype=np.uint8).reshape(n, 6)
    return images, np.arange(n) - 1, np.arange(n) * 10**15


def test_decode_inverts_encode():
    for decoded, expected in zip(LAYOUT.decode(LAYOUT.encode(*rows())), rows(), strict=True):
        np.testing.assert_array_equal(decoded, expected)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_any_int64_survives(values):
    ids = np.array(values, np.int64)
    _, labels, decoded = LAYOUT.decode(LAYOUT.encode(np.zeros((len(ids), 6), np.uint8), ids[::-1], ids))
    assert decoded.tolist() == values
    assert labels.tolist() == values[::-1]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (28, 28, 1), (64, 64, 3)])
def test_tensorflow_reads_the_records_as_ordinary_examples(tmp_path, shape):
    size = int(np.prod(shape))
    images = np.random.default_rng(0).integers(0, 256, (4, size), np.uint8)
    labels, ids = np.array([0, 9, UNLABELLED, 300]), np.array([0, 1, 127, 2**63 - 1])
    path = tmp_path / "x.tfrecord"
    path.write_bytes(RecordLayout(size).encode(images, labels, ids).tobytes())
    scalar = tf.io.FixedLenFeature([], tf.int64)
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": scalar, "id": scalar}
    (batch,) = tf.data.TFRecordDataset(str(path)).batch(4)
    parsed = tf.io.parse_example(batch, features)
    np.testing.assert_array_equal(tf.io.decode_raw(parsed["image"], tf.uint8), images)
    np.testing.assert_array_equal(parsed["label"], labels)
    np.testing.assert_array_equal(parsed["id"], ids)


def test_record_has_the_three_features_and_no_other():
    example = tf.train.Example.FromString(LAYOUT.encode(*rows())[1][12:-4].tobytes())
    assert {key: value.WhichOneof("kind") for key, value in example.features.feature.items()} == {
        "image": "bytes_list",
        "label": "int64_list",
        "id": "int64_list",
    }


def test_flipped_bit_anywhere_in_a_record_is_detected():
    records = LAYOUT.encode(*rows(3))
    assert LAYOUT.first_corrupt(records) is None
    for place in range(LAYOUT.stride):
        changed = records.copy()
        changed[1, place] ^= 4
        assert LAYOUT.first_corrupt(changed) == 1, place


def test_slices_and_constant_bytes_cover_a_record_once():
    covered = LAYOUT.constant.astype(int)
    for part in LAYOUT.slices.values():
        covered[part] += 1
    assert covered[:-4].tolist() == [1] * (LAYOUT.stride - 4)
