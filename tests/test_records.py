import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipeline.format.records import PAGE_BYTES, UNLABELLED, RecordLayout, page_rows

LAYOUT = RecordLayout(6)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_decode_inverts_encode_for_any_int64(values):
    ids = np.array(values, np.int64)
    images = np.arange(len(ids) * 6, dtype=np.uint8).reshape(-1, 6)
    decoded = LAYOUT.decode(LAYOUT.encode(images, ids[::-1], ids))
    for part, expected in zip(decoded, (images, ids[::-1], ids), strict=True):
        np.testing.assert_array_equal(part, expected)


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
    assert tf.train.Example.FromString(next(iter(batch)).numpy()).features.feature.keys() == features.keys()


def test_flipped_bit_anywhere_in_a_record_is_detected():
    records = LAYOUT.encode(np.zeros((3, 6), np.uint8), np.arange(3), np.arange(3))
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


@pytest.mark.parametrize(("stride", "rows"), [(1, PAGE_BYTES), (869, 301), (PAGE_BYTES, 1), (PAGE_BYTES + 1, 1)])
def test_page_holds_whole_records(stride, rows):
    assert page_rows(stride) == rows
