"""The compiled part of training: several steps per host call, on every replica, with nothing read back in between."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.step_state import StepState, step_state
from pipeline.feed.resident import SplitArrays, host_tensor
from pipeline.train.audit import EpochAudit
from pipeline.train.devices import Devices
from pipeline.train.run_plan import RunPlan

_SUMS = 4  # a call adds up loss, correct, examples and stop, in this order; then the loss of each step


class CallResult(NamedTuple):
    """What one host call computed, summed over all replicas of all workers."""

    loss: float  # sum of the examples' losses
    correct: float
    examples: float
    stop: bool  # whether a stop was requested on any worker
    step_losses: np.ndarray  # float32 [steps_per_call]: each step's part of `loss`, 0 for steps that the call lacks
    finite: bool  # whether all weights are finite after it


class CompiledSteps:
    """Trains and evaluates on elements of the feed, as `prefetch_to_devices` yields them.

    The loss of a step is the mean cross-entropy over the examples it holds: a replica adds the losses of its own and
    divides by the count of the whole step, and the optimizer sums gradients over replicas. Padding has weight 0.

    With `--xla` a step is compiled: all of it on one device, else the forward and backward pass. The optimizer
    adds up gradients over replicas, which XLA cannot do for devices of one strategy, so that stays outside.
    """

    def __init__(
        self,
        plan: RunPlan,
        devices: Devices,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        table: SplitArrays | None = None,
        audit: EpochAudit | None = None,
    ) -> None:
        self._plan, self._devices = plan, devices
        self.model, self.optimizer, self.audit = model, optimizer, audit
        self._per_call = plan.steps.steps_per_call
        # Cross-entropy from logits is exact even if probabilities have rounded to 0 or 1.
        self._logits = keras.Model(model.input, model.get_layer("logits").output)
        with devices.strategy.scope():
            self._totals = tf.Variable(
                tf.zeros(_SUMS + self._per_call),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            self._table: Any = None
            if table is not None:
                # In each replica's memory: a mirrored variable has a copy on every device of the strategy.
                images = tf.Variable(host_tensor(table.images), trainable=False, dtype=tf.uint8)
                # TensorFlow keeps int32 in the host's memory: GPUs have no kernel for a variable of that type.
                labels = tf.cast(host_tensor(table.labels), tf.int64)
                self._table = images, tf.Variable(labels, trainable=False)
        # One function per step for XLA; a tf.function is traced for each device, so replicas can share it.
        alone = devices.name == "one"
        self._replica_step = _compile(self._train_step) if plan.config.xla and alone else self._train_step
        self._gradients = _compile(self._gradients_of) if plan.config.xla and not alone else self._gradients_of
        self._train_call = tf.function(self._train, reduce_retracing=True)
        self._evaluate_call = tf.function(self._evaluate, reduce_retracing=True)
        self._finite_call = tf.function(lambda: _are_finite([*model.weights, *optimizer.variables]))

    def train(self, parts: Any, count: tf.Tensor, first_step: int, stop: bool = False) -> CallResult:
        """Train on one element's steps, and wait for the result.

        Args:
            parts: each replica's part of the element.
            count: float32 [steps], the examples of each step.
            first_step: global number of the first step.
            stop: whether a stop was requested on this worker.
        """
        vector = self._train_call(parts, count, tf.constant(first_step, tf.int64), tf.constant(float(stop)))
        return _unpack(vector.numpy())

    def evaluate(self, parts: Any, count: tf.Tensor) -> CallResult:
        """Evaluate one element, without training."""
        return _unpack(np.append(self._evaluate_call(parts, count).numpy(), np.float32(1)))

    def is_finite(self) -> bool:
        """Whether every variable of the model and the optimizer is finite; all workers get the same answer."""
        return bool(self._finite_call())

    def _train(self, parts, count, first_step, stop):
        strategy = self._devices.strategy
        strategy.run(self._reset, args=(stop,))
        # Metrics stay on the device until the call ends; a step that reports to the host would wait for it.
        for k in tf.range(_number_of_steps(count)):  # type: ignore[attr-defined]
            step = first_step + tf.cast(k, tf.int64)
            strategy.run(self._replica_step, args=(parts, k, count[k], step))
        # A loss can stay finite on weights that are not: relu takes NaN for 0.
        weights = tf.cast(_are_finite(self.model.weights), tf.float32)
        # Reading the totals outside the replicas sums them over all of them, on all workers.
        return tf.concat([self._totals.read_value(), [weights]], axis=0)

    def _evaluate(self, parts, count):
        strategy = self._devices.strategy
        strategy.run(self._reset, args=(tf.constant(0.0),))
        for k in tf.range(_number_of_steps(count)):  # type: ignore[attr-defined]
            strategy.run(self._evaluate_step, args=(parts, k))
        return self._totals.read_value()

    def _train_step(self, part, k, count, step):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradients, (index, losses, correct, weight) = self._gradients(part, k, count, step, replica)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        self._add(k, losses, correct, weight)
        if self.audit is not None:
            self.audit.count(index, weight)

    def _gradients_of(self, part, k, count, step, replica):
        """The gradients of a replica's part of a step, and its index, losses, correct, weight; all [n]."""
        index, image, label = self._batch(part, k)
        first_row = replica * tf.shape(index)[0]
        state = StepState(self._plan.config.seed, step, tf.cast(first_row, tf.int32))
        with tf.GradientTape() as tape, step_state(state):
            losses, correct, weight = self._losses(index, image, label, training=True)
            loss = tf.reduce_sum(losses) / count
            scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
            scaled = self.optimizer.scale_loss(loss) if scales else loss
        return tape.gradient(scaled, self.model.trainable_variables), (index, losses, correct, weight)

    def _evaluate_step(self, part, k):
        index, image, label = self._batch(part, k)
        self._add(k, *self._losses(index, image, label, training=False))

    def _batch(self, part, k):
        """One step's index [n], images [n, H, W, C] in the compute dtype, labels [n]."""
        index = part["index"][k]
        if "image" in part:
            image, label = part["image"][k], part["label"][k]
        else:
            # `tf.gather` would first read all of a mirrored variable, which GPUs cannot gather from as uint8.
            image, label = (
                tf.raw_ops.ResourceGather(resource=table.handle, indices=tf.maximum(index, 0), dtype=table.dtype)
                for table in self._table
            )
        if image.dtype == tf.uint8:
            image = tf.reshape(image, (-1, *self._plan.manifest.image_shape))
            image = self._plan.normalization.apply(image, self._plan.compute_dtype)
        return index, image, label

    def _losses(self, index, image, label, training):
        weight = tf.cast(index >= 0, tf.float32)
        logits = tf.cast(self._logits(image, training=training), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(label, 0), logits) * weight
        correct = tf.cast(tf.argmax(logits, axis=1, output_type=label.dtype) == label, tf.float32) * weight
        return losses, correct, weight

    def _reset(self, stop):
        share = stop / self._devices.replicas.local
        self._totals.assign(tf.concat([[0.0, 0.0, 0.0, share], tf.zeros(self._per_call)], axis=0))

    def _add(self, k, losses, correct, weight):
        sums = [tf.reduce_sum(values) for values in (losses, correct, weight)]
        # Chosen rather than multiplied into place, because 0 * NaN would put NaN in every step's.
        of_step = tf.where(tf.range(self._per_call) == k, sums[0], 0.0)
        self._totals.assign_add(tf.concat([[*sums, 0.0], of_step], axis=0))


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, jit_compile=True)


def _number_of_steps(count: tf.Tensor) -> tf.Tensor:
    """int32; a loop's condition is computed by the host, which need not wait for a GPU to know it."""
    with tf.device("CPU:0"):
        return tf.math.count_nonzero(count, dtype=tf.int32)


def _unpack(vector: np.ndarray) -> CallResult:
    loss, correct, examples, stop = map(float, vector[:_SUMS])
    return CallResult(loss, correct, examples, stop > 0, vector[_SUMS:-1], bool(vector[-1]))


def _are_finite(variables: Sequence[Any]) -> tf.Tensor:
    # A mirrored variable has the same value on every replica, so one copy of each is enough.
    values = map(tf.convert_to_tensor, variables)
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values if value.dtype.is_floating])
