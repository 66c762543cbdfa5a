"""The random numbers of one step's augmentation, by name."""

import tensorflow as tf

from models.step_state import StepState

# Each has its place in the draw of every image, so switching one strength off leaves the others' numbers as they are.
_NAMES = (
    *("mild", "untouched", "rotation", "shear", "stretch", "size", "zoom", "far", "right", "lower", "flip"),
    *("thickness", "gain", "cut", "cut_side", "cut_depth", "brightness", "contrast", "saturation"),
    *("line", "line_side", "line_place", "line_width", "line_grey", "line_length", "line_start"),
    *("speck", "speck_x", "speck_y", "speck_size", "speck_count", "speck_grey"),
)


class Draws:
    """Uniform numbers [n] per name, for the rows of this replica: the same whatever the number of replicas.

    `rows` are those of one step; n is that times the steps of `state`.
    """

    def __init__(self, state: StepState, rows: tf.Tensor, mild: float) -> None:
        self._state, self._rows = state, rows
        numbers = tf.unstack(tf.transpose(state.uniform("augment", rows, len(_NAMES))))
        self._numbers = dict(zip(_NAMES, numbers, strict=True))
        self._mild = self.happens("mild", mild) if mild else None

    def uniform(self, name: str) -> tf.Tensor:
        """float32 [n] in [0, 1)."""
        return self._numbers[name]

    def happens(self, name: str, share: float) -> tf.Tensor:
        """bool [n], true with the probability `share`."""
        return self.uniform(name) < share

    def symmetric(self, name: str, limit: float) -> tf.Tensor:
        """float32 [n] in [-limit, limit)."""
        return self.uniform(name) * (2 * limit) - limit

    def between(self, name: str, limits: tuple[float, float], mild: tuple[float, float] | None = None) -> tf.Tensor:
        """float32 [n] between the limits; between other ones for mild images."""
        low, high = limits
        values = self.uniform(name) * (high - low) + low
        if mild is None or self._mild is None:
            return values
        return tf.where(self._mild, self.uniform(name) * (mild[1] - mild[0]) + mild[0], values)

    def many(self, name: str, units: int) -> tf.Tensor:
        """float32 [n, units] in [0, 1) of a stream of its own."""
        return self._state.uniform(f"augment/{name}", self._rows, units)
