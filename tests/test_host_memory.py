import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from pipeline.feed.resident import aligned_matrix, host_tensor


def make_matrix() -> np.ndarray:
    matrix = aligned_matrix((1000, 784))
    matrix[:] = np.arange(784) % 251
    return matrix


@pytest.fixture
def matrix():
    return make_matrix()


def address(tensor: tf.Tensor) -> int:
    return np.asarray(memoryview(tensor)).ctypes.data


def test_aligned_array_is_not_copied(matrix):
    tensor = host_tensor(matrix)
    assert address(tensor) == matrix.ctypes.data
    assert address(tf.convert_to_tensor(matrix)) != matrix.ctypes.data  # or this function would not be needed
    assert (tensor.dtype, tensor.shape) == (tf.uint8, (1000, 784))
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
def test_other_arrays_are_copied_to_aligned_memory(matrix, change):
    array = change(matrix)
    tensor = host_tensor(array)
    assert address(tensor) % 64 == 0
    assert address(tensor) != array.ctypes.data
    np.testing.assert_array_equal(tensor, array)


def test_memory_lives_as_long_as_the_tensor():
    matrix = make_matrix()  # a fixture's value would be kept by pytest
    alive = weakref.ref(matrix.base)
    tensor = host_tensor(matrix)
    expected = matrix[1].copy()
    del matrix
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(tensor[1], expected)
    del tensor
    gc.collect()
    assert alive() is None


def test_numpy_function_does_not_copy_an_aligned_matrix(matrix):
    dataset = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: matrix, [], tf.uint8))
    (received,) = dataset
    assert address(received) == matrix.ctypes.data
