"""The compiled part of training: several steps a host call, on every replica, with nothing read back in between."""

import dataclasses

import keras
import tensorflow as tf

from models.dropout import DropoutState, dropout_state
from pipeline.feed.normalize import Normalization
from pipeline.feed.resident import SplitArrays, host_tensor
from pipeline.train.audit import EpochAudit
from pipeline.train.devices import Devices

# What a call adds up, in this order; `stop` is the number of workers that were told to stop.
TOTALS = ("loss", "correct", "examples", "stop")


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What the compiled calls need to know besides model and optimizer. `batch_size` is global.

    `steps_per_call` is that of training; elements to evaluate may have fewer.

    With `jit_compile` XLA compiles the training step of a replica, which must then be the only one: the optimizer adds
    up gradients over replicas inside the step, and XLA cannot wait for another device there.
    """

    batch_size: int
    steps_per_call: int
    seed: int
    image_shape: tuple[int, int, int]
    normalization: Normalization
    compute_dtype: str
    jit_compile: bool = False


class CompiledSteps:
    """`train(element, first_step)` and `evaluate(element)`: elements of the feed in, totals out.

    The loss of a step is the mean cross-entropy over the examples it holds: a replica adds the losses of its own and
    divides by the count of the whole step, and the optimizer sums gradients over replicas. Padding has weight 0.
    """

    def __init__(
        self,
        devices: Devices,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        config: StepConfig,
        table: SplitArrays | None = None,
        audit: EpochAudit | None = None,
    ) -> None:
        self._cluster, self._config = devices, config
        self.audit = audit
        self._model, self._optimizer = model, optimizer
        # Cross-entropy from logits is exact where probabilities have rounded to 0 or 1.
        self._logits = keras.Model(model.input, model.get_layer("logits").output)
        with devices.strategy.scope():
            self._totals = tf.Variable(
                tf.zeros(len(TOTALS) + config.steps_per_call),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            self._table = _make_table(table) if table is not None else None
        self._replica_step = tf.function(self._train_step, jit_compile=True) if config.jit_compile else self._train_step
        self._train_call = tf.function(self._train, reduce_retracing=True)
        self._evaluate_call = tf.function(self._evaluate, reduce_retracing=True)
        self._finite_call = tf.function(self._finite)

    def train(self, parts, count: tf.Tensor, first_step: int, stop: bool = False) -> tf.Tensor:
        """Train on one element's steps; `first_step` is the global number of the first.

        Returns:
            float32 [TOTALS + steps_per_call + 1]: the totals, the sum of the losses of each step, and whether all
            weights are finite after them (1.0) or not (0.0).
        """
        return self._train_call(parts, count, tf.constant(first_step, tf.int64), tf.constant(float(stop)))

    def evaluate(self, parts, count: tf.Tensor) -> tf.Tensor:
        """Totals over one element, without training. Returns float32 with TOTALS first."""
        return self._evaluate_call(parts, count)

    def is_finite(self) -> bool:
        """Whether no variable of the model or the optimizer holds NaN or infinity; every worker says the same."""
        return bool(self._finite_call())

    def _train(self, parts, count, first_step, stop):
        strategy = self._cluster.strategy
        strategy.run(self._reset, args=(stop,))
        # Metrics stay on the device until the call ends; a step that reports to the host would wait for it.
        for k in tf.range(tf.math.count_nonzero(count, dtype=tf.int32)):
            step = first_step + tf.cast(k, tf.int64)
            strategy.run(self._replica_step, args=(parts, k, count[k], step))
        # A loss can stay finite on weights that are not: relu takes NaN for 0.
        weights = tf.cast(_are_finite(self._model.weights), tf.float32)
        return tf.concat([self._read(), [weights]], axis=0)

    def _evaluate(self, parts, count):
        strategy = self._cluster.strategy
        strategy.run(self._reset, args=(tf.constant(0.0),))
        for k in tf.range(tf.math.count_nonzero(count, dtype=tf.int32)):
            strategy.run(self._evaluate_step, args=(parts, k))
        return self._read()

    def _train_step(self, part, k, count, step):
        index, image, label = self._batch(part, k)
        context = tf.distribute.get_replica_context()
        first_row = context.replica_id_in_sync_group * tf.shape(index)[0]
        state = DropoutState(self._config.seed, step, tf.cast(first_row, tf.int32))
        with tf.GradientTape() as tape, dropout_state(state):
            losses, correct, weight = self._losses(index, image, label, training=True)
            loss = tf.reduce_sum(losses) / count
            scaled = self._optimizer.scale_loss(loss) if _scales_loss(self._optimizer) else loss
        variables = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(scaled, variables), variables)
        self._add(k, losses, correct, weight)
        if self.audit is not None:
            self.audit.count(index, weight)

    def _evaluate_step(self, part, k):
        index, image, label = self._batch(part, k)
        self._add(k, *self._losses(index, image, label, training=False))

    def _batch(self, part, k):
        """One step's index [n], images [n, H, W, C] in the compute dtype, labels [n]."""
        index = part["index"][k]
        if "image" in part:
            image, label = part["image"][k], part["label"][k]
        else:
            images, labels = self._table
            safe = tf.maximum(index, 0)
            image, label = tf.gather(images, safe), tf.gather(labels, safe)
        if image.dtype == tf.uint8:
            image = tf.reshape(image, (-1, *self._config.image_shape))
            image = self._config.normalization.apply(image, self._config.compute_dtype)
        return index, image, label

    def _losses(self, index, image, label, training):
        weight = tf.cast(index >= 0, tf.float32)
        logits = tf.cast(self._logits(image, training=training), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(label, 0), logits) * weight
        correct = tf.cast(tf.argmax(logits, axis=1, output_type=label.dtype) == label, tf.float32) * weight
        return losses, correct, weight

    def _reset(self, stop):
        share = stop / self._cluster.replicas.local
        self._totals.assign(tf.concat([[0.0, 0.0, 0.0, share], tf.zeros(self._config.steps_per_call)], axis=0))

    def _add(self, k, losses, correct, weight):
        sums = [tf.reduce_sum(values) for values in (losses, correct, weight)]
        # Chosen rather than multiplied into place, because 0 * NaN would put NaN in every step's.
        of_step = tf.where(tf.range(self._config.steps_per_call) == k, sums[0], 0.0)
        self._totals.assign_add(tf.concat([[*sums, 0.0], of_step], axis=0))

    def _finite(self):
        return _are_finite([*self._model.weights, *self._optimizer.variables])

    def _read(self):
        # Reading it outside the replicas sums it over all of them, on all workers.
        return self._totals.read_value()


def _are_finite(variables) -> tf.Tensor:
    # A mirrored variable has the same value on every replica, so one copy of each tells.
    values = map(tf.convert_to_tensor, variables)
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values if value.dtype.is_floating])


def _scales_loss(optimizer) -> bool:
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def _make_table(arrays: SplitArrays) -> tuple[tf.Variable, tf.Variable]:
    """The split in each replica's memory: a mirrored variable has a copy on every device of the strategy."""
    images = tf.Variable(host_tensor(arrays.images), trainable=False, dtype=tf.uint8)
    return images, tf.Variable(host_tensor(arrays.labels), trainable=False, dtype=tf.int32)
