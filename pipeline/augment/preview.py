"""Augmented images outside of training, to look at."""

import numpy as np
import tensorflow as tf

from models.step_state import StepState
from pipeline.augment.strengths import Augmentation
from pipeline.augment.transform import augment


def augmented_versions(
    images: np.ndarray, strengths: Augmentation, seed: int, versions: int, dark_background: bool = True
) -> np.ndarray:
    """Images uint8 [n, H, W, C] as steps 0, 1, ... of a run would augment them: uint8 [versions, n, H, W, C]."""
    scaled = tf.constant(images, tf.float32) / 255
    results = [
        augment(scaled, strengths, StepState(seed, tf.constant(step, tf.int64), tf.constant(0)), dark_background)
        for step in range(versions)
    ]
    return np.stack([np.rint(result.numpy() * 255).astype(np.uint8) for result in results])
