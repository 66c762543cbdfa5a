"""The compiled part of training: several steps per host call, on every replica, with nothing read back in between."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.layer_types import layers_that_mix_rows, state_of_replicas
from models.step_state import StepState, step_state
from pipeline.feed.resident import host_tensor
from pipeline.train.audit import EpochAudit
from pipeline.train.call import batch_of, first_row_of, prepare_call, rows_of
from pipeline.train.devices import Devices
from pipeline.train.loss import balanced_weights, cross_entropy
from pipeline.train.optimizer import WeightAverage
from pipeline.train.prefetch import Feeds
from pipeline.train.run_plan import RunPlan

_SUMS = 4  # a call adds up loss, correct, examples and stop, in this order; then the loss of each step
# AutoGraph is for the loops over steps alone: translating all that a step calls took half of the time to the first one.
_as_written = tf.autograph.experimental.do_not_convert
_compile = functools.partial(tf.function, jit_compile=True)


class CallResult(NamedTuple):
    """What one host call computed, summed over all replicas of all workers."""

    loss: float  # sum of the examples' losses
    correct: float
    examples: float
    stop: bool  # whether a stop was requested on any worker
    step_losses: np.ndarray  # float32 [steps_per_call]: each step's part of `loss`, 0 for steps that the call lacks
    finite: bool  # whether all weights are finite after it
    learning_rate: float  # of the step that follows


class CompiledSteps:
    """Trains and evaluates on elements of the feed, as `prefetch_to_devices` yields them.

    The loss of a step is the mean cross-entropy over the examples it holds: a replica adds the losses of its own and
    divides by the count of the whole step, and the optimizer sums gradients over replicas. Padding has weight 0.
    Evaluation uses the moving average of the weights if the recipe keeps one.

    With `--xla` a step is compiled, without the augmentation, for whose resampling XLA has no kernel: all of it on one
    device, else the forward and backward pass. The optimizer adds up gradients over replicas, which XLA cannot do for
    devices of one strategy, so that stays outside.
    """

    def __init__(
        self,
        plan: RunPlan,
        devices: Devices,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        feeds: Feeds,
        audit: EpochAudit | None = None,
    ) -> None:
        self._plan, self._devices = plan, devices
        self.model, self.optimizer, self.audit = model, optimizer, audit
        self._per_call = plan.steps.steps_per_call
        # Cross-entropy from logits is exact even if probabilities have rounded to 0 or 1.
        self._logits = keras.Model(model.input, model.get_layer("logits").output)
        # Statistics must not count padding. One replica drops it, as fused kernels take no weights; XLA would compile
        # the shorter batch again, and of several replicas some would get no rows, so those weigh it.
        can_trim = devices.replicas.total == 1 and not plan.config.xla
        mixes = model.non_trainable_variables or layers_that_mix_rows(model)
        self._trims = can_trim and plan.steps.padding > 0 and bool(mixes)
        self._average = WeightAverage(model, optimizer)
        self._replica_state = state_of_replicas(model) if devices.replicas.total > 1 else []
        self._class_weights = balanced_weights(feeds.class_counts) if plan.config.class_weights != "none" else None
        with devices.strategy.scope():
            self._totals = tf.Variable(
                tf.zeros(_SUMS + self._per_call),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            self._table: Any = None
            if (table := feeds.table) is not None:
                # In each replica's memory: a mirrored variable has a copy on every device of the strategy.
                images = tf.Variable(host_tensor(table.images), trainable=False, dtype=tf.uint8)
                # TensorFlow keeps int32 in the host's memory: GPUs have no kernel for a variable of that type.
                labels = tf.cast(host_tensor(table.labels), tf.int64)
                self._table = images, tf.Variable(labels, trainable=False)
        # One function per step for XLA; a tf.function is traced for each device, so replicas can share it.
        alone = devices.name == "one"
        self._update = _compile(self._update_once) if plan.config.xla and alone else self._update_once
        self._gradients = _compile(self._gradients_of) if plan.config.xla and not alone else self._gradients_of
        self._train_call = tf.function(self._train, reduce_retracing=True)
        self._evaluate_call = tf.function(self._evaluate, reduce_retracing=True)
        self._statistics_call = tf.function(self._collect_statistics, reduce_retracing=True)
        self._finite_call = tf.function(lambda: _are_finite([*model.weights, *optimizer.variables]))

    def train(self, parts: Any, count: tf.Tensor, first_step: int, stop: bool = False) -> CallResult:
        """Train on one element's steps, and wait for the result.

        Args:
            parts: each replica's part of the element.
            count: float32 [steps], the examples of each step.
            first_step: global number of the first step.
            stop: whether a stop was requested on this worker.
        """
        first, stops = tf.constant(first_step, tf.int64), tf.constant(float(stop))
        return _unpack(self._train_call(parts, count, first, stops, self._trims_call(count)).numpy())

    def evaluate(self, parts: Any, count: tf.Tensor) -> CallResult:
        """Evaluate one element, without training."""
        return _unpack(np.append(self._evaluate_call(parts, count).numpy(), np.array([1, 0], np.float32)))

    @contextlib.contextmanager
    def averaged_weights(self, elements: Callable[[], Iterable[tuple[Any, tf.Tensor]]]) -> Iterator[None]:
        """Within the block the model has the moving average of its weights, if the recipe keeps one.

        Moving statistics belong to the weights they were computed with, so the average gets its own, from the training
        examples of `elements`.
        """
        if not self._average.exists:
            yield
            return
        statistics = [variable for variable in self.model.non_trainable_variables if variable.dtype == "float32"]
        before = [np.asarray(variable).copy() for variable in statistics]
        self._average.exchange()
        try:
            if statistics:
                for element, (parts, count) in enumerate(elements()):
                    first = tf.constant(element * self._per_call, tf.int64)
                    self._statistics_call(parts, count, first, self._trims_call(count))
            yield
        finally:
            self._average.exchange()
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)

    def is_finite(self) -> bool:
        """Whether every variable of the model and the optimizer is finite; all workers get the same answer."""
        return bool(self._finite_call())

    def _trims_call(self, count: tf.Tensor) -> bool:
        """Whether the steps of a call drop padding: on a GPU only if they have some, in a trace of their own.

        If the sizes of batches vary, a GPU computes shapes of gradients, and the host waits for it in each step.
        """
        if not self._trims or self._devices.accelerator == "CPU":
            return self._trims
        examples = count.numpy()
        return bool(np.any((examples > 0) & (examples < self._plan.steps.batch_size)))

    def _train(self, parts, count, first_step, stop, trims):
        strategy = self._devices.strategy
        strategy.run(self._reset, args=(stop,))
        batches = strategy.run(self._prepare, args=(parts, first_step))
        # Metrics stay on the device until the call ends; a step that reports to the host would wait for it.
        for k in tf.range(_number_of_steps(count)):  # type: ignore[attr-defined]
            step = first_step + tf.cast(k, tf.int64)
            strategy.run(self._train_step, args=(batches, k, count[k], step, rows_of(count, k, trims)))
        strategy.run(self._average_state)
        # A loss can stay finite on weights that are not: relu takes NaN for 0.
        weights = tf.cast(_are_finite(self.model.weights), tf.float32)
        rate = tf.cast(self.optimizer.learning_rate, tf.float32)
        # Reading the totals outside the replicas sums them over all of them, on all workers.
        return tf.concat([self._totals.read_value(), [weights, rate]], axis=0)

    def _evaluate(self, parts, count):
        strategy = self._devices.strategy
        strategy.run(self._reset, args=(tf.constant(0.0),))
        batches = strategy.run(self._prepare, args=(parts,))
        for k in tf.range(_number_of_steps(count)):  # type: ignore[attr-defined]
            strategy.run(self._evaluate_step, args=(batches, k))
        return self._totals.read_value()

    def _collect_statistics(self, parts, count, first, trims):
        """Make the layers' moving statistics the mean over the steps of all elements; `first` is this one's first."""
        strategy = self._devices.strategy
        batches = strategy.run(self._prepare, args=(parts, first))
        for k in tf.range(_number_of_steps(count)):  # type: ignore[attr-defined]
            step = first + tf.cast(k, tf.int64)
            share = 1 / (1 + tf.cast(step, tf.float32))
            strategy.run(self._statistics_step, args=(batches, k, step, share, rows_of(count, k, trims)))
        strategy.run(self._average_state)

    @_as_written
    def _average_state(self):
        if self._replica_state:
            values = [variable.value for variable in self._replica_state]
            means = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for variable, mean in zip(self._replica_state, means, strict=True):
                variable.assign(mean)

    @_as_written
    def _train_step(self, batches, k, count, step, rows):
        index, image, label = batch_of(batches, k, rows)
        weight = tf.cast(index >= 0, tf.float32)
        losses, correct = self._update(image, label, count, weight, step, first_row_of(index))
        self._add(k, losses, correct, weight)
        if self.audit is not None:
            self.audit.count(index, weight)

    def _update_once(self, *batch):
        """One step of the optimizer; returns the examples' losses and whether each was right, float32 [n]."""
        gradients, losses, correct = self._gradients(*batch)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return losses, correct

    def _gradients_of(self, image, label, count, weight, step, first_row):
        """The gradients of a replica's part of a step, and the results of its examples."""
        with tf.GradientTape() as tape, step_state(self._state(weight, step, first_row)):
            losses, correct = self._losses(image, label, weight, training=True)
            loss = tf.reduce_sum(losses) / count
            if self._logits.losses:  # regularizers of a user's own network: once per step, not per replica
                loss += tf.add_n(self._logits.losses) / self._devices.replicas.total
            scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
            scaled = self.optimizer.scale_loss(loss) if scales else loss
        return tape.gradient(scaled, self.model.trainable_variables), losses, correct

    @_as_written
    def _statistics_step(self, batches, k, step, share, rows):
        index, image, _ = batch_of(batches, k, rows)
        state = self._state(tf.cast(index >= 0, tf.float32), step, first_row_of(index))
        with step_state(dataclasses.replace(state, statistics_share=share)):
            self._logits(image, training=True)

    @_as_written
    def _evaluate_step(self, batches, k):
        index, image, label = batch_of(batches, k)
        weight = tf.cast(index >= 0, tf.float32)
        losses, correct = self._losses(image, label, weight, training=False)
        self._add(k, losses, correct, weight)

    def _state(self, weight, step, first_row):
        padded = self._plan.steps.padding and not self._trims
        return StepState(self._plan.config.seed, step, first_row, weight if padded else None)

    @_as_written
    def _prepare(self, part, first_step=None):
        """A call's part of this replica as `prepare_call` gives it, augmented if there is a first step."""
        state = None
        if first_step is not None:
            steps = first_step + tf.range(self._per_call, dtype=tf.int64)
            state = self._state(None, steps, first_row_of(part["index"][0]))
        return prepare_call(part, self._plan, self._table, state)

    def _losses(self, image, label, weight, training):
        logits, known = tf.cast(self._logits(image, training=training), tf.float32), tf.maximum(label, 0)
        settings = (self._plan.config.label_smoothing, self._class_weights) if training else ()
        losses = cross_entropy(logits, known, *settings)
        correct = tf.cast(tf.argmax(logits, axis=1, output_type=label.dtype) == label, tf.float32) * weight
        return losses * weight, correct

    def _reset(self, stop):
        share = stop / self._devices.replicas.local
        self._totals.assign(tf.concat([[0.0, 0.0, 0.0, share], tf.zeros(self._per_call)], axis=0))

    def _add(self, k, losses, correct, weight):
        sums = [tf.reduce_sum(values) for values in (losses, correct, weight)]
        # Chosen rather than multiplied into place, because 0 * NaN would put NaN in every step's.
        of_step = tf.where(tf.range(self._per_call) == k, sums[0], 0.0)
        self._totals.assign_add(tf.concat([[*sums, 0.0], of_step], axis=0))


def _number_of_steps(count: tf.Tensor) -> tf.Tensor:
    """int32; a loop's condition is computed by the host, which need not wait for a GPU to know it."""
    with tf.device("CPU:0"):
        return tf.math.count_nonzero(count, dtype=tf.int32)


def _unpack(vector: np.ndarray) -> CallResult:
    loss, correct, examples, stop, *_, finite, rate = map(float, vector)
    return CallResult(loss, correct, examples, stop > 0, vector[_SUMS:-2], finite > 0, rate)


def _are_finite(variables: Sequence[Any]) -> tf.Tensor:
    # A mirrored variable has the same value on every replica, so one copy of each is enough.
    values = map(tf.convert_to_tensor, variables)
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values if value.dtype.is_floating])
