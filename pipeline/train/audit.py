"""The epoch audit: which examples a run trained on, counted inside the step and checked at each epoch's end."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipeline.errors import InputError

# Ids of rows of the training split, int [n] to int [n]; read only if something is wrong.
ReadIds = Callable[[np.ndarray], Sequence[int] | np.ndarray]

_MAX_IDS = 5  # named in a message; the counts give the rest
_MAX_COUNTED = 255  # a row seen more often than a byte can hold is no less wrong


class EpochAudit:
    """Adds up, for every row of the split, the weight with which this epoch trained on it: 1.0 if all is well.

    Each replica counts into memory of its own, which costs a step one scatter of its rows and nothing between replicas;
    the counts are added up when an epoch ends or a checkpoint is written. They are float32 (exact up to 2**24),
    because TensorFlow has no integer scatter on GPUs. The last place counts rows that are not in the split.
    """

    def __init__(self, strategy: tf.distribute.Strategy, num_examples: int) -> None:
        self.num_examples = num_examples
        with strategy.scope():
            self._counts = tf.Variable(
                tf.zeros(num_examples + 1),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
        self._whole = True
        self._load = tf.function(lambda counts: strategy.run(self._assign, args=(counts,)))
        self._read = tf.function(lambda: self._counts.read_value())

    def count(self, index: tf.Tensor, weight: tf.Tensor) -> None:
        """Within a replica's step: its rows int [n], -1 for padding, and their weights float32 [n]."""
        known = (index >= 0) & (index < self.num_examples)
        # A distributed variable that is summed on reading has no scatter_add; the replica's own part of it has.
        tf.raw_ops.ResourceScatterAdd(
            resource=self._counts.handle, indices=tf.where(known, index, self.num_examples), updates=weight
        )

    def start(self, whole: bool = True, counts: bytes | None = None) -> bool:
        """Begin an epoch, or resume one from what `read` returned in it.

        Args:
            whole: the epoch begins here; otherwise it was counted so far if there are `counts` that fit.

        Returns:
            Whether the epoch is counted from its first step on.
        """
        resumed = counts is not None and len(counts) == self.num_examples + 1
        self._whole = whole or resumed
        so_far = np.frombuffer(counts, np.uint8) if counts and resumed else np.zeros(self.num_examples + 1)
        self._load(tf.constant(so_far, tf.float32))
        return self._whole

    def read(self) -> bytes | None:
        """The counts of all replicas on all workers, uint8 [num_examples + 1]; every worker must call it.

        None if this epoch was not counted from its first step on.
        """
        if not self._whole:
            return None
        return np.minimum(self._read().numpy(), _MAX_COUNTED).astype(np.uint8).tobytes()

    def _assign(self, counts: tf.Tensor) -> None:
        # Counts so far are given to one replica, or they would be added up as often as there are replicas.
        first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
        self._counts.assign(tf.where(first, counts, tf.zeros_like(counts)))


def check_epoch(counts: bytes, epoch: int, read_ids: ReadIds) -> str:
    """One line for an epoch (from 1) with these counts, as `EpochAudit.read` returns them.

    Raises:
        InputError: not every row was seen once; it names the first ids that were missed or seen again.
    """
    seen, unknown = np.frombuffer(counts[:-1], np.uint8), counts[-1]
    missing, repeated = np.flatnonzero(seen == 0), np.flatnonzero(seen > 1)
    total = f"{len(seen):,}"
    faults = []
    if len(missing):
        faults.append(f"{len(missing):,} of {total} examples missing ({name_ids(missing, read_ids)})")
    if len(repeated):
        faults.append(f"{len(repeated):,} of {total} trained on more than once ({name_ids(repeated, read_ids)})")
    if unknown:
        faults.append(f"rows that are not in the split ({unknown} or more)")
    if faults:
        raise InputError(
            f"the audit of epoch {epoch} failed: {'; '.join(faults)}; this is a bug in the feed, please report it with "
            "the run's config.json; the last checkpoint is from before"
        )
    return f"audit of epoch {epoch}: {total} of {total} examples, each once"


def name_ids(rows: np.ndarray, read_ids: ReadIds) -> str:
    """The ids of the first few of these rows, for a message."""
    first = ", ".join(map(str, read_ids(rows[:_MAX_IDS])))
    rest = f", ... {len(rows):,} in all" if len(rows) > _MAX_IDS else ""
    return f"{'id' if len(rows) == 1 else 'ids'} {first}{rest}"
