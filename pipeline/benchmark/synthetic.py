"""Images of made-up bytes, for what does not depend on what they show."""

import numpy as np

from pipeline.feed.host_memory import aligned_matrix
from pipeline.feed.resident import SplitArrays

IMAGE_BYTES = 28 * 28


def made_up_arrays(rows: int) -> SplitArrays:
    """A split of `rows` images of 28x28; every page of its memory is there."""
    images = aligned_matrix((rows, IMAGE_BYTES))
    images[:] = 1
    return SplitArrays(images, np.zeros(rows, np.int32), np.arange(rows))
