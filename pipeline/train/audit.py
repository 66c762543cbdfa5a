"""The epoch audit: which examples a run trained on, counted inside the step and judged at each epoch's end."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipeline.errors import InputError

# Ids of rows of the training split, int [n] to int [n]; asked for only when something is wrong.
ReadIds = Callable[[np.ndarray], Sequence[int]]

_MAX_IDS = 5  # named in a message; the counts tell the rest
_MAX_COUNTED = 255  # a row seen more often than a byte can tell is no less wrong


class EpochAudit:
    """Adds up, for every row of the split, the weight with which this epoch trained on it: 1.0 where all is well.

    Each replica counts into memory of its own, which costs a step one scatter of its rows and nothing between replicas;
    the counts are added up where an epoch ends or a checkpoint is written. They are float32 (exact up to 2**24),
    because TensorFlow has no scatter of whole numbers on GPUs. A last place counts what is no row of the split.
    """

    def __init__(self, strategy: tf.distribute.Strategy, num_examples: int) -> None:
        self._strategy, self._num_examples = strategy, num_examples
        with strategy.scope():
            self._counts = tf.Variable(
                tf.zeros(num_examples + 1),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
        self._whole = True
        self._load_call = tf.function(self._load)
        self._read_call = tf.function(self._read)

    def count(self, index: tf.Tensor, weight: tf.Tensor) -> None:
        """Within a replica's step: its rows int [n], -1 where a place is padding, and their weights float32 [n]."""
        known = (index >= 0) & (index < self._num_examples)
        # A distributed variable that is added up on reading has no scatter_add; the replica's own part of it has.
        tf.raw_ops.ResourceScatterAdd(
            resource=self._counts.handle, indices=tf.where(known, index, self._num_examples), updates=weight
        )

    def fits(self, counts: np.ndarray | None) -> bool:
        """Whether these can be counts that `read` gave."""
        return counts is not None and counts.shape == (self._num_examples + 1,) and counts.dtype == np.uint8

    def start(self, so_far: np.ndarray | None = None, whole: bool = True) -> None:
        """Begin an epoch, or go on from the counts that `read` gave; `whole` False where part of it was not counted."""
        self._whole = whole
        counts = np.zeros(self._num_examples + 1) if so_far is None else so_far
        self._load_call(tf.constant(counts, tf.float32))

    def read(self) -> np.ndarray | None:
        """The counts of all replicas on all workers together, uint8 [num_examples + 1]; every worker must call it.

        None where this epoch was not counted from its first step on.
        """
        if not self._whole:
            return None
        return np.minimum(self._read_call().numpy(), _MAX_COUNTED).astype(np.uint8)

    def _read(self):
        return self._counts.read_value()

    def _load(self, counts):
        self._strategy.run(self._assign, args=(counts,))

    def _assign(self, counts):
        # What was counted before is one replica's, or it would be added up as often as there are replicas.
        first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
        self._counts.assign(tf.where(first, counts, tf.zeros_like(counts)))


def judge(counts: np.ndarray, epoch: int, read_ids: ReadIds) -> str:
    """What to say of an epoch (from 1) whose rows were trained on so often, uint8 [num_examples + 1].

    Raises:
        InputError: not each row once; it names the first ids that were missed and doubled.
    """
    seen, strange = counts[:-1], int(counts[-1])
    missing, doubled = np.flatnonzero(seen == 0), np.flatnonzero(seen > 1)
    total = f"{len(seen):,}"
    faults = []
    if len(missing):
        faults.append(f"{len(missing):,} of {total} examples missing ({name_ids(missing, read_ids)})")
    if len(doubled):
        faults.append(f"{len(doubled):,} of {total} trained on more than once ({name_ids(doubled, read_ids)})")
    if strange:
        faults.append(f"rows that the split does not have ({strange} or more)")
    if faults:
        raise InputError(
            f"the audit of epoch {epoch} found {'; '.join(faults)}; the feed is at fault, so please report it with the "
            "run's config.json; the last checkpoint is from before"
        )
    return f"audit of epoch {epoch}: {total} of {total} examples, each once"


def name_ids(rows: np.ndarray, read_ids: ReadIds) -> str:
    """The ids of the first few of these rows, for a message."""
    first = ", ".join(map(str, read_ids(rows[:_MAX_IDS])))
    rest = f", ... {len(rows):,} in all" if len(rows) > _MAX_IDS else ""
    return f"{'id' if len(rows) == 1 else 'ids'} {first}{rest}"
