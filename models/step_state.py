"""What layers and augmentation may know of the step they run in, and random numbers that follow from it alone.

Keras draws random numbers from a mutable seed variable: every replica gets the same ones, and a checkpoint does not
bring the variable back. Here nothing is stored. The numbers are those that Philox gives for the whole global batch, and
a replica takes its own rows by starting the counter there, so 1 and 8 replicas draw the same for the same examples.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import tensorflow as tf

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_PER_COUNT = 4  # uint32 numbers that one value of Philox's counter gives (Salmon et al., SC 2011: philox4x32)


@dataclasses.dataclass(frozen=True)
class StepState:
    """The run's seed, the global step, and the position of this replica's first row in the global batch.

    Augmentation runs for several steps at once, and then `step` is int64 [steps].
    `weight` has 1 for each of this replica's examples and 0 for padding, or is None if no row is padding.
    `statistics_share` is the share of this batch in the moving statistics, None if the layer decides.
    """

    seed: int
    step: tf.Tensor  # int64 scalar, or [steps] of static size
    first_row: tf.Tensor  # int32 scalar
    weight: tf.Tensor | None = None  # float32 [n]
    statistics_share: tf.Tensor | None = None  # float32 scalar

    def uniform(self, stream: str, rows: tf.Tensor, units: int) -> tf.Tensor:
        """float32 [rows, units] in [0, 1): rows `first_row ...` of this step's numbers for the whole batch.

        Of several steps, those of each one after another: float32 [steps * rows, units].

        Args:
            stream: a name; no two share numbers.
            rows: int32 scalar, the rows of this replica in a step.
        """
        # Whole counts per row, so that a row's numbers start at a count of their own on any replica.
        counts = -(-units // _PER_COUNT)
        first = tf.cast(self.first_row, tf.uint64) * tf.constant(counts, tf.uint64)

        def of_step(step: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.StatelessRandomUniformV2(
                shape=tf.stack([rows, counts * _PER_COUNT]),
                key=tf.constant([_mix(self.seed, stream)], tf.uint64),
                counter=tf.stack([first, tf.cast(step, tf.uint64)]),
                alg=_PHILOX,
                dtype=tf.float32,
            )

        if self.step.shape.rank == 0:
            return of_step(self.step)[:, :units]
        # Not by map_fn: the condition of its loop would be computed on a GPU, which the host waits for each time.
        return tf.concat([of_step(self.step[k]) for k in range(self.step.shape[0] or 0)], axis=0)[:, :units]


_state: contextvars.ContextVar[StepState | None] = contextvars.ContextVar("step_state", default=None)


@contextlib.contextmanager
def step_state(state: StepState) -> Iterator[None]:
    """Set the state of the step that layers called within run in."""
    token = _state.set(state)
    try:
        yield
    finally:
        _state.reset(token)


def current_state() -> StepState:
    """The state of the surrounding step; RuntimeError outside of one."""
    state = _state.get()
    if state is None:
        raise RuntimeError("training needs models.step_state.step_state around the call")
    return state


def _mix(seed: int, name: str) -> int:
    """64-bit FNV-1a of the seed and the stream's name."""
    value = 0xCBF29CE484222325  # FNV's offset basis; the factor below is its prime
    for byte in f"{seed}/{name}".encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value
