"""A call's batches as the network takes them: looked up, augmented and normalized for all steps at once.

These are hundreds of small operations. A GPU would wait for the host to start them in each step.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from models.step_state import StepState
from pipeline.train.run_plan import RunPlan


class Batches(NamedTuple):
    """One replica's rows of a call."""

    row: tf.Tensor  # int [steps, n], of the split; -1 for padding
    image: tf.Tensor  # [steps, n, H, W, C], normalized, in the compute dtype
    label: tf.Tensor  # int [steps, n]


def prepare_call(part: dict[str, tf.Tensor], plan: RunPlan, table: Any, state: StepState | None = None) -> Batches:
    """The batches of one replica's part of an element.

    Args:
        table: the variables with the images and labels of the split, to look up what `part` lacks.
        state: the steps, to augment for; None: no augmentation.
    """
    index = part["index"]
    if "image" in part:
        image, label = part["image"], part["label"]
    else:
        # `tf.gather` would first read all of a mirrored variable, which GPUs cannot gather from as uint8.
        image, label = (
            tf.raw_ops.ResourceGather(resource=held.handle, indices=tf.maximum(index, 0), dtype=held.dtype)
            for held in table
        )
    if image.dtype != tf.uint8:  # the host has scaled it
        return Batches(index, image, label)
    shape = plan.manifest.image_shape
    image = tf.reshape(image, (-1, *shape))
    image = plan.augmented(image, state) if state else plan.normalization.apply(image, plan.compute_dtype)
    return Batches(index, tf.reshape(image, (-1, tf.shape(index)[1], *shape)), label)


def rows_of(count: tf.Tensor, k: tf.Tensor, trims: bool) -> tf.Tensor | None:
    """int32, the examples of step `k` if it drops padding; the host slices by it, so a GPU must not hold it."""
    if not trims:
        return None
    with tf.device("CPU:0"):
        return tf.cast(count[k], tf.int32)


def batch_of(batches: Batches, k: tf.Tensor, rows: tf.Tensor | None = None) -> Batches:
    """Rows [n], images [n, H, W, C] and labels [n] of step `k`, or of its first `rows`."""
    return Batches(*(values[k][:rows] for values in batches))


def first_row_of(index: tf.Tensor) -> tf.Tensor:
    """Position in the global batch of this replica's first row, int32, by its rows `index` of a step."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.cast(replica * tf.shape(index)[0], tf.int32)
