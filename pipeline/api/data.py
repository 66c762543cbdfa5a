"""A split of a data set as a plain tf.data.Dataset, for Keras's `fit` and loops of other kinds."""

import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.errors import InputError, size_text
from pipeline.feed.normalize import KINDS, Normalization
from pipeline.feed.order import PADDING, Steps, epoch_order, in_calls
from pipeline.feed.plan import default_memory_budget
from pipeline.feed.python_calls import python_call
from pipeline.feed.resident import SplitArrays, host_tensor, load_split
from pipeline.format.manifest import Manifest, load_manifest
from pipeline.splits import TRAIN

_GATHERS, _PREFETCH = 3, 2  # batches


def load(  # noqa: PLR0913  (options that are independent of each other)
    data: str | pathlib.Path,
    split: str = TRAIN,
    batch_size: int = 256,
    *,
    shuffle: bool | None = None,
    seed: int = 0,
    first_epoch: int = 0,
    dtype: str = "float32",
    normalization: str = "unit",
    weights: bool = False,
) -> tf.data.Dataset:
    """Batches of a split, which is held in memory as bytes: (image, label), or images alone if there are no labels.

    Each iteration is an epoch: every example once, in the order of `feed/order.py`, so epoch e of two programs with the
    same seed is the same.

    Args:
        batch_size: global, if a strategy divides it.
        shuffle: by default for the split `train`.
        first_epoch: the order that the first iteration has; to resume, the number of epochs done. Under a strategy
            `fit` reads one batch before it trains, which takes one epoch's order.
        dtype: of the images [n, H, W, C]: "uint8", or a float type in which they are normalized.
        normalization: "unit", x / 255, or "standard", mean 0 and deviation 1 of the training split.
        weights: (image, label, weight) instead: the last batch is filled up with examples of weight 0, so that shapes
            are static, as several steps per execution and XLA need them.

    Returns:
        A dataset of known cardinality; labels are int32.

    Raises:
        InputError: the data set, the split or a shard is missing or corrupt, or takes over half of the free
            memory.
    """
    whole = all(isinstance(number, int | np.integer) for number in (batch_size, first_epoch, seed))
    valid = whole and batch_size >= 1 and first_epoch >= 0 and _is_image_dtype(dtype)
    if not valid or normalization not in KINDS:
        given = f"batch_size {batch_size!r}, first_epoch {first_epoch!r}, seed {seed!r}, dtype {dtype!r}"
        given += f", normalization {normalization!r}"
        raise InputError(
            f"{given}: give a batch of 1 or more, an epoch from 0, a whole seed, uint8 or a float type, and one of "
            f"{', '.join(KINDS)}"
        )
    manifest = load_manifest(data)
    _check_memory(data, split, manifest)
    mean, std = (manifest.pixel_mean, manifest.pixel_std) if normalization == "standard" else ((), ())
    scaling = None if dtype == "uint8" else Normalization(normalization, mean, std)
    steps = Steps(manifest.split(split).num_examples, batch_size)
    indices = _indices(steps, seed, first_epoch, split == TRAIN if shuffle is None else shuffle)
    gather = _make_gather(load_split(data, manifest, split), manifest, split, (scaling, dtype), weights)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread delays the end of an iterator: feed/dataset.py
    return (
        indices.map(gather, num_parallel_calls=_GATHERS, deterministic=True).prefetch(_PREFETCH).with_options(options)
    )


def _is_image_dtype(dtype: str) -> bool:
    try:
        return dtype == "uint8" or tf.as_dtype(dtype).is_floating
    except TypeError:
        return False


def _check_memory(data: str | pathlib.Path, split: str, manifest: Manifest) -> None:
    held, budget = manifest.split(split).num_examples * manifest.layout.image_bytes, default_memory_budget()
    if held > budget:
        raise InputError(
            f"{data}: the split {split} takes {size_text(held)}, over half of the free memory ({size_text(budget)}); "
            "pipeline.train streams such data"
        )


def _make_gather(
    arrays: SplitArrays, manifest: Manifest, split: str, scaling: tuple[Normalization | None, str], weights: bool
) -> Callable[[tf.Tensor], Any]:
    """The function from a step's index int32 [batch_size] to its element."""
    images, labels, (normalization, dtype) = host_tensor(arrays.images), host_tensor(arrays.labels), scaling

    def gather(index: tf.Tensor) -> Any:
        if not weights:
            index = tf.boolean_mask(index, index != PADDING)
        safe = tf.maximum(index, 0)
        image = tf.reshape(tf.gather(images, safe), (*index.shape, *manifest.image_shape) if weights else shape)
        parts = [image if normalization is None else normalization.apply(image, dtype)]
        if manifest.split(split).labelled:
            parts.append(tf.gather(labels, safe))
        if weights:
            parts.append(tf.cast(index != PADDING, tf.float32))
        return tuple(parts) if len(parts) > 1 else parts[0]

    shape = (-1, *manifest.image_shape)
    return gather


def _indices(steps: Steps, seed: int, first_epoch: int, shuffle: bool) -> tf.data.Dataset:
    """int32 [batch_size] per step, PADDING in places without an example; each iteration draws the next epoch's."""
    epochs = itertools.count(first_epoch)

    def draw(_: np.ndarray) -> np.ndarray:
        order = epoch_order(steps.num_examples, seed, next(epochs)) if shuffle else np.arange(steps.num_examples)
        return in_calls(order.astype(np.int32), steps.batch_size, 1)[0][:, 0]

    def step(order: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def drawn() -> tf.Tensor:
            return tf.ensure_shape(python_call(draw, [k], (tf.int32,))[0], order.shape)

        order = tf.cond(k == 0, drawn, lambda: order)
        return order, order[k]

    # A scan keeps the number of elements known, which a flat_map over epochs would not: without it `fit` warns.
    return tf.data.Dataset.range(steps.per_epoch).scan(tf.zeros((steps.per_epoch, steps.batch_size), tf.int32), step)
