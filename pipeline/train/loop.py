"""The training loop: epochs of calls, validation, callbacks, checkpoints; stopping it does not change the result."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from pipeline.feed.dataset import Position
from pipeline.status import doing
from pipeline.train.audit import check_epoch
from pipeline.train.callbacks import start_callbacks
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.devices import Devices
from pipeline.train.gpu_monitor import idle_reason, make_gpu_monitor
from pipeline.train.prefetch import Feeds, prefetch_to_devices
from pipeline.train.progress import Reporter, StopRequested, StopSignal, ThroughputMeter
from pipeline.train.recovery import RATE_FACTOR, Diverged, FiniteGuard, advice, go_back
from pipeline.train.run_plan import RunPlan
from pipeline.train.state import StepRow, TrainState
from pipeline.train.step import CallResult, CompiledSteps
from pipeline.train.stored import EpochRow

_STATISTICS_STEPS = 64  # batches whose statistics the averaged weights get
_MAX_STEP_ROWS = 1000  # every checkpoint holds them


class Trainer:
    """Trains a model on the elements of its feeds, one compiled call after another.

    Of the configuration it uses `epochs`, `patience`, `checkpoint_every` and `recover`. Checkpoints go to `store`, and
    come from it to recover: the same directory on all workers, to which only the chief writes.
    """

    def __init__(
        self,
        plan: RunPlan,
        devices: Devices,
        compiled: CompiledSteps,
        feeds: Feeds,
        store: CheckpointStore,
        reporter: Reporter,
    ) -> None:
        self._config, self._steps, self._devices, self._feeds = plan.config, plan.steps, devices, feeds
        self._compiled, self._model, self._optimizer = compiled, compiled.model, compiled.optimizer
        self._store, self._reporter, self._streamed = store, reporter, plan.feed_plan.feed == "stream"
        self._gpus, self._waited = make_gpu_monitor(devices), 0.0  # seconds of this epoch without a batch
        self._guard = FiniteGuard(devices, compiled, feeds.read_ids)
        self._listeners = keras.callbacks.CallbackList()
        self._stop_signal, self._traced = StopSignal(), False  # traced: the step is compiled
        self._row_steps = -(-self._config.epochs * self._steps.per_epoch // _MAX_STEP_ROWS)
        self._on_epoch: Callable[[TrainState], None] | None = None

    def restore(self) -> TrainState:
        """Load the newest checkpoint; returns the state to resume from, or a fresh one.

        Raises:
            InputError: no checkpoint can be read, or these workers cannot all resume from it.
        """
        restored, remarks = self._store.restore_newest(self._model, self._optimizer)
        for remark in remarks:
            self._reporter.line(remark)
        state = restored or TrainState()
        self._check_same_step(state)
        if state.global_step:
            place = "after the last epoch" if self.finished(state) else f"at epoch {state.epoch + 1}, step {state.step}"
            self._report("resumed", f"resumed {place}", state)
        return state

    def fit(
        self,
        state: TrainState,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        stop: StopSignal | None = None,
        on_epoch: Callable[[TrainState], None] | None = None,
    ) -> TrainState:
        """Train from `state` to the end, and return the state there.

        Args:
            callbacks: Keras callbacks. They see every epoch, and batches by the call: `on_train_batch_end` gets the
                last step of each call. On several workers, a callback that stops training must be given to all. A
                recovery starts the epoch of its checkpoint again.
            stop: once truthy, training stops after the running call, with a checkpoint.
            on_epoch: called with the state after each epoch, when its checkpoint is written or being written.

        Raises:
            StopRequested: `stop` became truthy here or on another worker; the checkpoint is written.
            Diverged: a loss or a weight is not finite, and no recovery is left; checkpoints are from before.
            InputError: the audit found an epoch that did not see each example once.
        """
        config = self._config
        self._stop_signal = stop if stop is not None else StopSignal()
        self._on_epoch = on_epoch
        self._listeners = start_callbacks(callbacks, self._model, config, self._steps.per_epoch, state.history)
        if config.recover and state.global_step == 0:
            self._save(state)  # so that there is something to go back to
        while not self.finished(state):
            try:
                self._train(state)
            except Diverged as problem:
                state = self._recover(state, problem)
        self._listeners.on_train_end(dict(state.history[-1]) if state.history else {})
        return state

    def _train(self, state: TrainState) -> None:
        """Train from `state` to the end of the run."""
        self._start_audit(state)
        dataset = self._feeds.train(Position(state.epoch, state.step, self._config.epochs))
        try:
            with contextlib.closing(prefetch_to_devices(dataset, self._devices)) as feed, self._gpus:  # type: ignore[type-var]
                while not self.finished(state):
                    self._train_epoch(state, feed)
        finally:
            self._store.wait()

    def _train_epoch(self, state: TrainState, feed: Iterator[Any]) -> None:
        self._listeners.on_epoch_begin(state.epoch)
        meter = ThroughputMeter()
        self._waited = 0.0
        self._gpus.read()  # validation's
        for first, count in self._steps.calls(state.step):
            result, parts = self._train_call(state, feed, first, count, meter)
            in_epoch = state.step < self._steps.per_epoch
            due = result.stop or _is_due(self._config.checkpoint_every, first, state.step)
            if due or not in_epoch:
                self._guard.check_variables(state, parts, count)
            if due and in_epoch:
                self._save(state)
                self._stop_if(result.stop, state)
        self._end_epoch(state, meter)
        # Workers agree on it, because a signal that came since the last call is known to one of them only.
        self._stop_if(any(self._devices.gather(bool(self._stop_signal))), state)

    def _train_call(
        self, state: TrainState, feed: Iterator[Any], first: int, count: int, meter: ThroughputMeter
    ) -> tuple[CallResult, Any]:
        """Train the `count` steps of a call and advance the state; returns their result and the replicas' parts."""
        self._listeners.on_train_batch_begin(first)
        started = time.perf_counter()
        parts, counts = next(feed)
        waited = time.perf_counter() - started
        self._waited += waited
        with contextlib.nullcontext() if self._traced else doing("compiling the first step"):
            result = self._compiled.train(parts, counts, state.global_step, bool(self._stop_signal))
        self._traced = True
        seconds = time.perf_counter() - started
        self._guard.check_call(state, parts, result, count)
        row = StepRow(state.global_step + count, *result[:3], seconds, waited, result.learning_rate)
        state.add(row, self._row_steps)
        meter.mark(int(result.examples))
        logs = {**row.figures(), **_means(state)}
        self._listeners.on_train_batch_end(first + count - 1, logs)
        logs["images_per_second"] = meter.images_per_second
        self._reporter.step(state.epoch, self._config.epochs, state.step, self._steps.per_epoch, logs)
        return result, parts

    def _end_epoch(self, state: TrainState, meter: ThroughputMeter) -> None:
        if gpus := self._gpus.read():  # before validation, whose work is another
            gpus["feed_wait"] = min(1.0, self._waited / state.seconds)
        self._end_audit(state)
        self._listeners.on_test_begin()
        validation = self._validate(state)
        self._listeners.on_test_end(validation)
        logs = {
            **_means(state),
            **validation,
            # If an epoch was resumed or is one call long there is no clean interval; then all its seconds count.
            "images_per_second": meter.images_per_second or state.totals[2] / state.seconds,
            "seconds": state.seconds,
            "learning_rate": float(keras.ops.convert_to_numpy(self._optimizer.learning_rate)),
        }
        best = _score(logs) > max(map(_score, state.history), default=-math.inf)
        row = EpochRow(epoch=state.epoch + 1, step=state.global_step, **logs, **gpus)  # type: ignore[typeddict-item]
        state.history.append(row)
        state.epoch, state.step, state.seconds, state.totals = state.epoch + 1, 0, 0.0, (0.0, 0.0, 0.0)
        self._save(state, best)
        self._reporter.epoch(self._config.epochs, row)
        # The first epoch compiles; one line is enough for all after it.
        if state.epoch == 2 and gpus and (text := idle_reason(gpus["gpu_utilisation"], gpus["feed_wait"])):
            self._reporter.line(text, event="bottleneck", epoch=2, **gpus)
        self._listeners.on_epoch_end(state.epoch - 1, logs)
        if self._on_epoch is not None:
            self._on_epoch(state)

    def _validate(self, state: TrainState) -> dict[str, float]:
        if self._feeds.validation is None:
            return {}
        sums = np.zeros(3)
        with doing("validating"), self.averaged_weights():
            for parts, counts in self._delivered(self._feeds.validation()):
                sums += self._compiled.evaluate(parts, counts)[:3]
        loss, correct, examples = sums.tolist()
        self._guard.check_validation(state, loss)
        return {"val_loss": loss / examples, "val_accuracy": correct / examples}

    def averaged_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within the block the model has the moving average of its weights, if the recipe keeps one."""
        return self._compiled.averaged_weights(self._statistics_elements)

    def _statistics_elements(self) -> Iterator[tuple[Any, Any]]:
        """The first training elements, always the same ones: enough for the statistics of a layer."""
        elements = -(-_STATISTICS_STEPS // self._steps.steps_per_call)
        return self._delivered(self._feeds.statistics().take(elements))

    def _delivered(self, dataset: Any) -> Iterator[tuple[Any, Any]]:
        with contextlib.closing(prefetch_to_devices(dataset, self._devices)) as elements:  # type: ignore[type-var]
            yield from elements

    def finished(self, state: TrainState) -> bool:
        """Whether there is nothing left to train from this state on."""
        patience, scores = self._config.patience, [_score(row) for row in state.history]
        # Early stopping follows from the history alone, so that a resumed run stops where an uninterrupted one does.
        too_long = patience is not None and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience
        return state.epoch >= self._config.epochs or self._model.stop_training or too_long

    def _recover(self, state: TrainState, problem: Diverged) -> TrainState:
        """The state to resume from at a lower rate, or Diverged if no recovery is left."""
        limit = self._config.recover
        self._devices.wait_for_all()
        if state.recoveries >= limit:
            raise Diverged(problem.step, f"{problem}; {advice(state.recoveries)}")
        back, remarks = go_back(self._store, self._model, self._optimizer, problem, state.recoveries + 1)
        self._check_same_step(back)  # also so that the chief changes nothing that others still read
        for remark in remarks:
            self._reporter.line(remark)
        rate = RATE_FACTOR**back.recoveries
        text = (
            f"{problem}; going back to epoch {back.epoch + 1}, step {back.step} with the learning rate times {rate:g} "
            f"(recovery {back.recoveries} of {limit})"
        )
        self._report("recovery", text, back, recovery=back.recoveries, rate_factor=rate)
        self._write(back)  # with the lower rate, which a kill must not undo
        return back

    def _check_same_step(self, state: TrainState) -> None:
        self._devices.check_agreement({"the step to resume from": state.global_step}, "--run-dir must be shared")
        state.deal_to(self._devices.num_workers if self._streamed else 1)

    def _start_audit(self, state: TrainState) -> None:
        audit = self._compiled.audit
        if audit is None:
            state.audit = None  # what this start trains on is not counted, so the epoch's count ends here
        elif not audit.start(state.step == 0, state.audit):
            epoch = state.epoch + 1
            text = f"epoch {epoch} began without --audit, so the audit begins with epoch {epoch + 1}"
            self._reporter.line(text, event="audit", epoch=epoch, complete=False, examples=audit.num_examples)

    def _end_audit(self, state: TrainState) -> None:
        audit = self._compiled.audit
        if audit is None:
            return
        if (counts := audit.read()) is not None:
            epoch = state.epoch + 1
            text = check_epoch(counts, epoch, self._feeds.read_ids)
            self._reporter.line(text, event="audit", epoch=epoch, complete=True, examples=audit.num_examples)
            applied = int(keras.ops.convert_to_numpy(self._optimizer.iterations))
            if skipped := state.global_step - applied:
                self._reporter.line(f"float16 overflow kept {skipped} steps so far from changing the weights")
        audit.start()

    def _save(self, state: TrainState, best: bool = False) -> None:
        audit = self._compiled.audit
        # Adding up takes all workers, also those that do not write.
        state.audit = audit.read() if audit is not None and state.step else None
        self._write(state, best)

    def _write(self, state: TrainState, best: bool = False) -> None:
        if self._devices.is_chief:
            self._store.save(self._model, self._optimizer, state, best)

    def _stop_if(self, requested: bool, state: TrainState) -> None:
        """Raise StopRequested if it is; the checkpoint of `state` is written."""
        if requested:
            done = state.epoch >= self._config.epochs
            place = "after the last epoch" if done else f"before epoch {state.epoch + 1}, step {state.step}"
            text = f"stopped {place}; run the same command to {'write the results' if done else 'resume'}"
            self._report("stopped", text, state, signal=self._stop_signal.signum)
            raise StopRequested(self._stop_signal.signum)

    def _report(self, event: str, text: str, state: TrainState, **fields: Any) -> None:
        """Print a line with the position of `state` (epochs from 1)."""
        position = {"epoch": state.epoch + 1, "step": state.step, "global_step": state.global_step}
        self._reporter.line(text, event=event, **position, **fields)


def _means(state: TrainState) -> dict[str, float]:
    loss, correct, examples = state.totals
    return {"loss": loss / examples, "accuracy": correct / examples}


def _is_due(every: int | None, first: int, end: int) -> bool:
    return every is not None and first // every != end // every


def _score(logs: Mapping[str, Any]) -> float:
    return logs.get("val_accuracy", logs["accuracy"])
