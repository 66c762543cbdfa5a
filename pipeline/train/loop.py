"""The training loop: epochs of calls, validation, callbacks, checkpoints; the same run however often it is stopped."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from pipeline.feed.dataset import Position
from pipeline.feed.order import Steps
from pipeline.train.audit import judge
from pipeline.train.checkpoint import CheckpointStore, TrainState
from pipeline.train.devices import Devices
from pipeline.train.meter import ThroughputMeter
from pipeline.train.prefetch import Feeds, prefetch_to_devices
from pipeline.train.progress import Reporter
from pipeline.train.recovery import RATE_FACTOR, Diverged, FiniteGuard, advice, go_back
from pipeline.train.step import TOTALS, CompiledSteps
from pipeline.train.stop import StopRequested, StopSignal


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """`patience` epochs without a better val_accuracy end a run; `checkpoint_every` steps, besides every epoch.

    `recover` is how often a run whose numbers run away may go back to a checkpoint, over all its starts.
    """

    epochs: int
    patience: int | None = None
    checkpoint_every: int | None = None
    recover: int = 0


@dataclasses.dataclass(frozen=True)
class _Session:
    """What one call of `fit` was given."""

    config: LoopConfig
    store: CheckpointStore | None
    listeners: keras.callbacks.CallbackList
    stop: StopSignal
    on_epoch: Callable[[TrainState], None] | None


class Trainer:
    """Trains a model on the elements of its feeds, one compiled call after another."""

    def __init__(
        self,
        devices: Devices,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        calls: CompiledSteps,
        steps: Steps,
        feeds: Feeds,
        reporter: Reporter,
    ) -> None:
        self._cluster, self._model, self._optimizer = devices, model, optimizer
        self._calls, self._steps = calls, steps
        self._feeds, self._reporter = feeds, reporter
        self._guard = FiniteGuard(devices, optimizer, calls, feeds.read_ids)

    def fit(
        self,
        config: LoopConfig,
        state: TrainState,
        store: CheckpointStore | None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        stop: StopSignal | None = None,
        on_epoch: Callable[[TrainState], None] | None = None,
    ) -> TrainState:
        """Train from `state` to the end, and return the state there.

        Args:
            store: where checkpoints go and, to recover, come from: the same directory on all workers, of which only the
                chief writes. None keeps none.
            callbacks: Keras callbacks. They see every epoch, and batches by the call: `on_train_batch_end` gets the
                last step of each call. On several workers, give one that stops training to all of them. A recovery
                begins the epoch of its checkpoint once more.
            on_epoch: called with the state after each epoch, when its checkpoint is written or on its way.

        Raises:
            StopRequested: `stop` became truthy here or on another worker; the checkpoint is written.
            Diverged: a loss or a weight is not finite any more, and no recovery is left; checkpoints are from before.
            InputError: the audit found an epoch that did not see each example once.
        """
        listeners = keras.callbacks.CallbackList(
            list(callbacks), model=self._model, epochs=config.epochs, steps=self._steps.per_epoch, verbose=0
        )
        session = _Session(config, store, listeners, stop if stop is not None else StopSignal(), on_epoch)
        self._model.stop_training = False
        listeners.on_train_begin()
        if config.recover and state.global_step == 0:
            self._save(session, state)  # so that there is something to go back to
        while not self._finished(config, state):
            try:
                self._train(session, state)
            except Diverged as problem:
                state = self._recover(session, state, problem)
        listeners.on_train_end(_logs(state))
        return state

    def _train(self, session: _Session, state: TrainState) -> None:
        """Train from where the state stands to the end of the run."""
        epochs = session.config.epochs
        self._start_audit(state)
        feed = prefetch_to_devices(self._feeds.train(Position(state.epoch, state.step, epochs)), self._cluster)
        try:
            while not self._finished(session.config, state):
                asked_to_stop = self._train_epoch(session, state, feed)
                if session.on_epoch is not None:
                    session.on_epoch(state)
                if asked_to_stop:
                    self._stop(session, state)
        finally:
            feed.close()
            if session.store is not None:
                session.store.wait()

    def _train_epoch(self, session: _Session, state: TrainState, feed) -> bool:
        """Train to the end of the epoch; True where the last call of it was told to stop."""
        config, listeners = session.config, session.listeners
        listeners.on_epoch_begin(state.epoch)
        meter = ThroughputMeter()
        for first, count in self._steps.calls(state.step):
            listeners.on_train_batch_begin(first)
            started = time.perf_counter()
            parts, counts = next(feed)
            totals = self._calls.train(parts, counts, state.global_step, bool(session.stop)).numpy()
            state.seconds += time.perf_counter() - started
            self._guard.check_call(state, parts, totals[len(TOTALS) : len(TOTALS) + count], bool(totals[-1]))
            _advance(state, totals, count)
            meter.mark(int(totals[2]))
            listeners.on_train_batch_end(first + count - 1, _running(state))
            logs = {**_running(state), "images_per_second": meter.images_per_second}
            self._reporter.step(state.epoch, config.epochs, state.step, self._steps.per_epoch, logs)
            in_epoch = state.step < self._steps.per_epoch
            due = totals[3] or _is_due(config.checkpoint_every, first, state.step)
            if due or not in_epoch:
                self._guard.check_variables(state, parts, count)
            if due and in_epoch:
                self._save(session, state)
            if in_epoch and totals[3]:
                self._stop(session, state)
        self._end_epoch(session, state, meter)
        return bool(totals[3])

    def _end_epoch(self, session: _Session, state: TrainState, meter: ThroughputMeter) -> None:
        self._end_audit(state)
        session.listeners.on_test_begin()
        validation = self._validate(state)
        session.listeners.on_test_end(validation)
        logs = {**_running(state), **validation}
        # Where an epoch was resumed or is one call long there is no clean interval; then all its seconds count.
        logs["images_per_second"] = meter.images_per_second or state.totals[2] / state.seconds
        logs["seconds"] = state.seconds
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        best = _is_best(state.history, logs)
        state.history.append({"epoch": state.epoch + 1, "step": state.global_step, **logs})
        state.epoch, state.step, state.seconds, state.totals = state.epoch + 1, 0, 0.0, [0.0, 0.0, 0.0]
        self._save(session, state, best)
        self._reporter.epoch(state.epoch - 1, session.config.epochs, logs)
        session.listeners.on_epoch_end(state.epoch - 1, logs)

    def _validate(self, state: TrainState) -> dict[str, float]:
        if self._feeds.validation is None:
            return {}
        sums = [0.0, 0.0, 0.0]
        with contextlib.closing(prefetch_to_devices(self._feeds.validation(), self._cluster)) as calls:
            for parts, counts in calls:
                totals = self._calls.evaluate(parts, counts).numpy()
                sums = [have + float(new) for have, new in zip(sums, totals, strict=False)]
        self._guard.check_validation(state, sums[0])
        return {"val_loss": sums[0] / sums[2], "val_accuracy": sums[1] / sums[2]}

    def _finished(self, config: LoopConfig, state: TrainState) -> bool:
        return state.epoch >= config.epochs or self._model.stop_training or _out_of_patience(config, state.history)

    def _recover(self, session: _Session, state: TrainState, problem: Diverged) -> TrainState:
        """The state to go on from at a lower rate, or Diverged where that is not wanted (any more)."""
        most = session.config.recover
        self._cluster.wait_for_all()
        if session.store is None or state.recoveries >= most:
            raise Diverged(problem.step, f"{problem}; {advice(state.recoveries)}")
        back, remarks = go_back(session.store, self._model, self._optimizer, problem, state.recoveries + 1)
        self._cluster.check_same(back.global_step)  # so that the chief changes nothing that others still read
        for remark in remarks:
            self._reporter.line(remark)
        self._reporter.line(
            f"{problem}; going back to epoch {back.epoch + 1}, step {back.step} with the learning rate times "
            f"{RATE_FACTOR**back.recoveries:g} (recovery {back.recoveries} of {most})",
            event="recovery",
            global_step=back.global_step,
        )
        self._write(session, back)  # with the lower rate, which a kill must not undo
        return back

    def _start_audit(self, state: TrainState) -> None:
        if self._calls.audit is None:
            state.audit = None  # what this start trains on is not counted, so the epoch's count ends here
            return
        whole = state.step == 0 or self._calls.audit.fits(state.audit)
        if not whole:
            epoch = state.epoch + 1
            self._reporter.line(f"epoch {epoch} began without --audit, so the audit begins with epoch {epoch + 1}")
        self._calls.audit.start(state.audit if whole else None, whole)

    def _end_audit(self, state: TrainState) -> None:
        audit = self._calls.audit
        if audit is None:
            return
        if (counts := audit.read()) is not None:
            self._reporter.line(judge(counts, state.epoch + 1, self._feeds.read_ids))
            applied = int(keras.ops.convert_to_numpy(self._optimizer.iterations))
            if skipped := state.global_step - applied:
                self._reporter.line(f"float16 overflow kept {skipped} steps so far from changing the weights")
        audit.start()

    def _save(self, session: _Session, state: TrainState, best: bool = False) -> None:
        audit = self._calls.audit
        # Adding up takes all workers, also those that do not write.
        state.audit = audit.read() if audit is not None and state.step else None
        self._write(session, state, best)

    def _write(self, session: _Session, state: TrainState, best: bool = False) -> None:
        if session.store is not None and self._cluster.is_chief:
            session.store.save(self._model, self._optimizer, state, best)

    def _stop(self, session: _Session, state: TrainState) -> NoReturn:
        where = f"epoch {state.epoch + 1}, step {state.step}"
        raise StopRequested(session.stop.signum, f"stopped before {where}; the same command goes on from there")


def _advance(state: TrainState, totals: np.ndarray, count: int) -> None:
    state.totals = [have + float(new) for have, new in zip(state.totals, totals, strict=False)]
    state.step += count
    state.global_step += count


def _running(state: TrainState) -> dict[str, float]:
    loss, correct, examples = state.totals
    return {"loss": loss / examples, "accuracy": correct / examples}


def _logs(state: TrainState) -> dict[str, Any]:
    return dict(state.history[-1]) if state.history else {}


def _is_due(every: int | None, first: int, end: int) -> bool:
    return every is not None and first // every != end // every


def _score(logs: dict[str, Any]) -> float:
    return logs.get("val_accuracy", logs["accuracy"])


def _is_best(history: list[dict[str, Any]], logs: dict[str, Any]) -> bool:
    return _score(logs) > max(map(_score, history), default=-math.inf)


def _out_of_patience(config: LoopConfig, history: list[dict[str, Any]]) -> bool:
    """Early stopping as a function of the history alone, so that a resumed run stops where an unbroken one does."""
    if config.patience is None or not history:
        return False
    scores = [_score(logs) for logs in history]
    return len(scores) - 1 - scores.index(max(scores)) >= config.patience
