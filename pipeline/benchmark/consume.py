"""Ways to take elements from a data set, as work that returns the images it took."""

import sys
from collections.abc import Callable

import tensorflow as tf

from pipeline.feed.dataset import Position
from pipeline.train.devices import Devices
from pipeline.train.prefetch import prefetch_to_devices

FOREVER = Position(0, 0, sys.maxsize)  # where a feed without end starts

# Work between two looks at the clock: enough that looking costs nothing, little enough for the slowest recipe.
_IMAGES_A_MARK, _MAX_ELEMENTS_A_MARK = 1 << 14, 64


def consume_in_function(
    dataset: tf.data.Dataset, images_of: Callable[..., tf.Tensor], images_an_element: int
) -> Callable[[], int]:
    """Work that takes elements inside a tf.function, without Python between them, and returns their images."""
    iterator = iter(dataset)
    elements = min(max(1, _IMAGES_A_MARK // images_an_element), _MAX_ELEMENTS_A_MARK)

    @tf.function
    def consume():
        images = tf.constant(0)
        for _ in tf.range(elements):
            images += images_of(next(iterator))
        return images

    # A concrete function, as many traces of one Python function make TensorFlow warn of tracing one too often.
    traced = consume.get_concrete_function()
    return lambda: int(traced())


def images_of_call(element) -> tf.Tensor:
    """The examples in an element of our feed, int32."""
    return tf.cast(tf.reduce_sum(element["count"]), tf.int32)


def images_of_pair(element) -> tf.Tensor:
    """The examples in a batch of (image, label), int32."""
    return tf.shape(element[0])[0]


def handed_over(dataset: tf.data.Dataset, devices: Devices) -> Callable[[], int]:
    """Work that takes an element of our feed when it is on the replicas' devices."""
    elements = prefetch_to_devices(dataset, devices)
    return lambda: int(tf.reduce_sum(next(elements)[1]))
