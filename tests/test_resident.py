import gc
import weakref

import msgspec
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.feed.resident import aligned_matrix, host_tensor, load_split
from pipeline.format.manifest import load_manifest
from tests.helpers import faults
from tests.helpers.datasets import bars, write_digits


def test_rows_are_in_the_order_of_the_csv(digits):
    arrays = load_split(digits, load_manifest(digits), "train")
    images, labels = bars(range(203))
    np.testing.assert_array_equal(arrays.images.reshape(images.shape), images)
    np.testing.assert_array_equal(arrays.labels, labels)
    np.testing.assert_array_equal(arrays.ids, np.arange(203))
    assert set(load_split(digits, load_manifest(digits), "test").labels.tolist()) == {-1}


def test_shards_are_verified(tmp_path):
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    shards = [directory / shard.name for shard in manifest.split("train").shards]
    faults.swap(shards[0], shards[1])
    with pytest.raises(InputError, match=f"{shards[0].name}: records 0 to 67 are valid, but not the ones"):
        load_split(directory, manifest, "train")
    shards[2].unlink()
    with pytest.raises(InputError, match=f"{shards[2].name}: missing"):
        load_split(directory, manifest, "train")


def test_absurd_counts_are_refused_before_memory_is_allocated(digits):
    manifest, count = load_manifest(digits), 10**15
    split, replace = manifest.split("train"), msgspec.structs.replace
    shards = tuple(replace(shard, num_examples=count, num_bytes=count * manifest.stride) for shard in split.shards)
    absurd = replace(manifest, splits={"train": replace(split, num_examples=3 * count, shards=shards)})
    with pytest.raises(InputError, match="bytes, expected"):
        load_split(digits, absurd, "train")


def make_matrix() -> np.ndarray:
    matrix = aligned_matrix((1000, 784))
    matrix[:] = np.arange(784) % 251
    return matrix


def address(tensor: tf.Tensor) -> int:
    return np.asarray(memoryview(tensor)).ctypes.data


def test_aligned_matrix_is_not_copied_by_tensors_or_numpy_function():
    matrix = make_matrix()
    tensor = host_tensor(matrix)
    (received,) = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: matrix, [], tf.uint8))
    assert address(tensor) == address(received) == matrix.ctypes.data
    assert address(tf.convert_to_tensor(matrix)) != matrix.ctypes.data  # or host_tensor would not be needed
    np.testing.assert_array_equal(tensor, matrix)


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


@pytest.mark.parametrize(
    "change",
    [lambda m: m.reshape(-1)[1:785], read_only, lambda m: m[:, ::2], lambda m: m.view(">u2")],
    ids=["unaligned", "read-only", "strided", "big-endian"],
)
def test_other_arrays_are_copied_to_aligned_memory(change):
    array = change(make_matrix())
    tensor = host_tensor(array)
    assert address(tensor) % 64 == 0
    assert address(tensor) != array.ctypes.data
    np.testing.assert_array_equal(tensor, array)


def test_memory_lives_as_long_as_the_tensor():
    matrix = make_matrix()
    alive = weakref.ref(matrix.base)
    tensor = host_tensor(matrix)
    del matrix
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(tensor[1], np.arange(784) % 251)
    del tensor
    gc.collect()
    assert alive() is None
