"""The optimizer of a recipe, correct over replicas: schedules, clipping and the moving average of weights."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.normalization import move_towards
from pipeline.train.recipe import Recipe

_COSINE_END = 0.01  # share of the peak rate
_NO_DECAY = ["bias", "gamma", "beta"]  # names of variables that scale or shift


def make_optimizer(recipe: Recipe, total_steps: int, precision: str) -> keras.optimizers.Optimizer:
    """The optimizer for a run of so many steps, not built yet; float16 gets a loss scale."""
    options: dict[str, Any] = {"use_ema": recipe.ema > 0, "ema_momentum": recipe.ema, "name": recipe.optimizer}
    if recipe.optimizer == "sgd":
        options.update(momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    else:
        options.update(beta_1=recipe.momentum, beta_2=recipe.beta_2)
    if recipe.optimizer != "adam":
        options.update(weight_decay=recipe.weight_decay)
    optimizer = _OPTIMIZERS[recipe.optimizer](recipe.peak_learning_rate, **options)
    optimizer.norm_limit = recipe.clip_norm
    if recipe.optimizer != "adam":
        optimizer.exclude_from_weight_decay(var_names=_NO_DECAY)
    if recipe.schedule != "constant":
        make_recoverable(optimizer, make_schedule(recipe, total_steps))
    return ReplicaSafeLossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def make_schedule(recipe: Recipe, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The rate at each step: a linear rise to the peak, then a cosine or a line down."""
    peak, warmup = recipe.peak_learning_rate, max(1, int(total_steps * recipe.warmup))
    if recipe.schedule == "one-cycle":
        return OneCycle(peak, warmup, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / 10,
        warmup_target=peak,
        warmup_steps=warmup,
        decay_steps=max(1, total_steps - warmup),
        alpha=_COSINE_END,
    )


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A line from 0 up to `peak` at step `warmup`, and down to 0 at step `total` (Smith, arXiv 1708.07120)."""

    def __init__(self, peak: float, warmup: int, total: int) -> None:
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        rise = (step + 1) / self.warmup
        fall = (self.total - step) / max(1, self.total - self.warmup)
        return self.peak * tf.clip_by_value(tf.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


class _AcrossReplicas:
    """Clips gradients when they are summed over replicas, and averages weights where they are held.

    Keras 3.15 clips each replica's own gradients, assigns averages in a way that a strategy of several replicas refuses
    (tests/test_upstream_traps.py), and computes the rate again for each variable that decays: 14 kernels of a GPU each.
    """

    norm_limit: float | None = None

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)  # type: ignore[misc]
        if self.norm_limit is None:
            return reduced
        gradients, variables = zip(*reduced, strict=True)
        return list(zip(tf.clip_by_global_norm(gradients, self.norm_limit)[0], variables, strict=True))

    def _apply_weight_decay(self: Any, variables: Any) -> None:
        if self.weight_decay is None:
            return
        rate = tf.cast(self.learning_rate, tf.float32)
        decayed = [(variable.value, rate) for variable in variables if self._use_weight_decay(variable)]
        self._update_each(lambda v, r: v.assign_sub(v * self.weight_decay * r), decayed)

    def _update_model_variables_moving_average(self: Any, trainable_variables: Any) -> None:
        if not self.use_ema:
            return
        # It follows the first steps closely, as the average of few weights should.
        count = tf.cast(self.iterations.value, tf.float32)
        share = 1 - tf.minimum(self.ema_momentum, (1 + count) / (10 + count))
        share = tf.where(count > 0, share, 1.0)  # it starts from the first weights, not from Keras's zeros
        averages = [
            (average.value, variable.value, share)
            for average, variable in zip(self._model_variables_moving_average, trainable_variables, strict=True)
        ]
        self._update_each(move_towards, averages)

    def _update_each(self: Any, function: Callable[..., Any], calls: list[tuple]) -> None:
        """Call `function` with a variable and more arguments, for each such tuple, where the variable is held."""

        def update(strategy: tf.distribute.Strategy, calls: list[tuple]) -> None:
            for variable, *arguments in calls:
                strategy.extended.update(variable, function, args=tuple(arguments), group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(update, self._distribution_strategy, calls)


class _FusedAdam(_AcrossReplicas):
    """Adam by TensorFlow's one kernel per variable: Keras's twenty operations each are half of a GPU's step."""

    def _backend_update_step(self: Any, grads: Any, trainable_variables: Any, learning_rate: tf.Tensor) -> None:
        # Keras hands the rate on as it is; what all variables share is computed once and travels with it.
        count = tf.cast(self.iterations.value + 1, tf.float32)
        shared = (learning_rate, self.beta_1**count, self.beta_2**count)
        super()._backend_update_step(grads, trainable_variables, shared)  # type: ignore[misc]

    def update_step(
        self: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    ) -> None:
        rate, power_1, power_2 = learning_rate
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class _Adam(_FusedAdam, keras.optimizers.Adam):
    pass


class _AdamW(_FusedAdam, keras.optimizers.AdamW):
    pass


class _Sgd(_AcrossReplicas, keras.optimizers.SGD):
    pass


_OPTIMIZERS: dict[str, Any] = {"adam": _Adam, "adamw": _AdamW, "sgd": _Sgd}


class WeightAverage:
    """The optimizer's moving average of the weights, which takes their place for evaluation."""

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        self.exists = inner.use_ema
        averages = inner._model_variables_moving_average if self.exists else []
        self._pairs = list(zip(model.trainable_variables, averages, strict=self.exists))
        self._exchange = tf.function(self._exchange_values)

    def exchange(self) -> None:
        """Exchange weights and averages; a second call restores both, bit for bit."""
        if self.exists:
            self._exchange()

    def _exchange_values(self) -> None:
        for variable, average in self._pairs:
            weight = tf.identity(variable.value)
            variable.assign(average.value)
            average.assign(weight)


class ReplicaSafeLossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Skips the step on all replicas, and halves the scale, if any replica's gradients overflow.

    Keras 3.15 checks only the first replica, taking gradients to be summed already, which they are not: an overflow on
    the second writes infinities into every replica's weights (tests/test_upstream_traps.py has the case).
    """

    def check_finite(self, grads: list[Any]) -> Any:
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None:
            return finite
        overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.logical_not(finite), tf.float32))
        return tf.equal(overflows, 0.0)


class RecoverableSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a factor: a variable of the optimizer's, so that checkpoints keep it with all others."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, factor: keras.Variable) -> None:
        self.schedule, self.factor = schedule, factor

    def __call__(self, step: Any) -> Any:
        return self.schedule(step) * self.factor

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "factor": float(keras.ops.convert_to_numpy(self.factor))}


def make_recoverable(
    optimizer: keras.optimizers.Optimizer, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> None:
    """Give the optimizer, not built yet, this schedule in a form that `lower_rate` can lower."""
    factor = optimizer.add_variable(shape=(), initializer="ones", name="rate_factor")
    optimizer.learning_rate = RecoverableSchedule(schedule, factor)


def lower_rate(optimizer: keras.optimizers.Optimizer, factor: float) -> None:
    """Multiply the learning rate of all steps to come; it is a variable, or a schedule by `make_recoverable`."""
    factors = [variable for variable in optimizer.variables if variable.name == "rate_factor"]
    rate = factors[0] if factors else optimizer.learning_rate
    rate.assign(keras.ops.convert_to_numpy(rate) * np.float32(factor))


def rate_at(optimizer: keras.optimizers.Optimizer, step: int) -> float:
    """The learning rate at a global step."""
    # Keras evaluates a schedule at the optimizer's current step only, so the schedule itself is evaluated.
    rate = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
    value = rate(step) if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else rate
    return float(keras.ops.convert_to_numpy(value))
