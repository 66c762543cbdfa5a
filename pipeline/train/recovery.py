"""When numbers overflow: skip a step of float16, else report where, and go back to a checkpoint at a lower rate."""

import math
from typing import Any, NoReturn

import keras
import numpy as np

from pipeline.errors import InputError, pluralize
from pipeline.train.audit import ReadIds, name_ids
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.devices import Devices
from pipeline.train.optimizer import lower_rate, rate_at
from pipeline.train.state import TrainState
from pipeline.train.step import CallResult, CompiledSteps

RATE_FACTOR = 0.5  # of the learning rate, each time a run goes back


class Diverged(InputError):
    """A loss, a weight or an optimizer's variable became NaN or infinite; `step` is the global step it was seen in."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


class FiniteGuard:
    """Raises Diverged after a call whose losses or weights are not finite, and before either is saved.

    What it checks is summed over all workers, or the same on each, so that all of them raise it together. `parts` are
    the replicas' parts of the call's element.
    """

    def __init__(self, devices: Devices, compiled: CompiledSteps, read_ids: ReadIds) -> None:
        self._devices, self._compiled, self._read_ids = devices, compiled, read_ids

    def check_call(self, state: TrainState, parts: Any, result: CallResult, count: int) -> None:
        """Check the result of the call of `count` steps that began at `state`: the losses of its steps first."""
        bad = np.flatnonzero(~np.isfinite(result.step_losses[:count]))
        if len(bad):
            k = int(bad[0])
            self._diverge(f"the loss became {result.step_losses[k]} in", state, k, parts, k)
        if not result.finite:
            self._diverge("weights became NaN or infinite by", state, count - 1, parts, count - 1)

    def check_variables(self, state: TrainState, parts: Any, count: int) -> None:
        """Check all that a checkpoint of `state` would hold, after a call of `count` steps."""
        if not self._compiled.is_finite():
            self._diverge("weights or optimizer variables became NaN or infinite by", state, -1, parts, count - 1)

    def check_validation(self, state: TrainState, loss: float) -> None:
        """Check the loss over the validation split, at the end of an epoch."""
        if not math.isfinite(loss):
            rate = rate_at(self._compiled.optimizer, state.global_step)
            text = f"the validation loss became {loss} after epoch {state.epoch + 1}, learning rate {rate:g}"
            raise Diverged(state.global_step, text)

    def _diverge(self, what: str, state: TrainState, ahead: int, parts: Any, k: int) -> NoReturn:
        """Raise Diverged for step `k` of a call, which is `ahead` steps after `state`."""
        indices = self._devices.strategy.experimental_local_results(parts["index"])
        rows = np.concatenate([index[k].numpy() for index in indices])
        step = state.global_step + ahead
        whose = "this worker's part of the batch" if self._devices.num_workers > 1 else "the batch"
        raise Diverged(
            step,
            f"{what} step {step} (epoch {state.epoch + 1}, step {state.step + ahead}), "
            f"learning rate {rate_at(self._compiled.optimizer, step):g}; {whose} has "
            f"{name_ids(rows[rows >= 0], self._read_ids)}",
        )


def go_back(
    store: CheckpointStore,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    problem: Diverged,
    recoveries: int,
) -> tuple[TrainState, list[str]]:
    """Load the last good checkpoint into model and optimizer, and lower the rate for the `recoveries`-th time.

    A checkpoint inside an epoch is good if a step was trained from it whose loss was finite. One at the end of an epoch
    is good in any case: its validation loss was finite.

    Returns:
        The state to resume from, and the lines of `restore_newest`.

    Raises:
        Diverged: `problem`, if there is no such checkpoint.
    """
    state, remarks = store.restore_newest(model, optimizer)
    if state and state.step and state.global_step >= problem.step:
        state, remarks = store.restore_newest(model, optimizer, before=problem.step)
    if state is None:
        raise Diverged(problem.step, f"{problem}; there is no good checkpoint to go back to")
    # The rate in a checkpoint has been lowered as often as its state says.
    recoveries = max(recoveries, state.recoveries)
    lower_rate(optimizer, RATE_FACTOR ** (recoveries - state.recoveries))
    state.recoveries = recoveries
    return state, remarks


def advice(recoveries: int) -> str:
    """What a user can do about a run that has gone back so often and will not again."""
    restart = "start again with a lower --learning-rate and --fresh"
    if recoveries:
        times = f"going back {pluralize(recoveries, 'time')}, to {RATE_FACTOR**recoveries:g} of the rate, did not help"
        return f"{times}; {restart}"
    return f"all checkpoints are from before it; add --recover 3 to go back to one at a lower rate, or {restart}"
