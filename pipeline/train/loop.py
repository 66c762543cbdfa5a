"""The training loop: epochs of calls, validation, callbacks, checkpoints; the same run however often it is stopped."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras

from pipeline.errors import InputError
from pipeline.feed.dataset import Position
from pipeline.feed.order import Steps
from pipeline.train.audit import judge
from pipeline.train.checkpoint import CheckpointStore, TrainState
from pipeline.train.feeder import Feeds, feed_replicas
from pipeline.train.meter import ThroughputMeter
from pipeline.train.progress import Reporter
from pipeline.train.step import CompiledCalls
from pipeline.train.stop import StopRequested, StopSignal
from pipeline.train.strategy import Cluster


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """`patience` epochs without a better val_accuracy end a run; `checkpoint_every` steps, besides every epoch."""

    epochs: int
    patience: int | None = None
    checkpoint_every: int | None = None


class Trainer:
    """Trains a model on the elements of its feeds, one compiled call after another."""

    def __init__(
        self,
        cluster: Cluster,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        calls: CompiledCalls,
        steps: Steps,
        feeds: Feeds,
        reporter: Reporter,
    ) -> None:
        self._cluster, self._model, self._optimizer = cluster, model, optimizer
        self._calls, self._steps = calls, steps
        self._feeds, self._reporter = feeds, reporter

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
            callbacks: Keras callbacks. They see every epoch, and batches by the call: `on_train_batch_end` gets the
                last step of each call. On several workers, give one that stops training to all of them.
            on_epoch: called with the state after each epoch, when its checkpoint is written or on its way.

        Raises:
            StopRequested: `stop` became truthy here or on another worker; the checkpoint is written.
            InputError: the loss is not finite any more.
        """
        stop = stop if stop is not None else StopSignal()
        listeners = keras.callbacks.CallbackList(
            list(callbacks), model=self._model, epochs=config.epochs, steps=self._steps.per_epoch, verbose=0
        )
        self._model.stop_training = False
        listeners.on_train_begin()
        if not self._finished(config, state):
            self._start_audit(state)
            feed = feed_replicas(self._feeds.train(Position(state.epoch, state.step, config.epochs)), self._cluster)
            try:
                while not self._finished(config, state):
                    asked_to_stop = self._train_epoch(config, state, store, feed, listeners, stop)
                    if on_epoch is not None:
                        on_epoch(state)
                    if asked_to_stop:
                        self._stop(state, stop)
            finally:
                feed.close()
                if store is not None:
                    store.wait()
        listeners.on_train_end(_logs(state))
        return state

    def _train_epoch(self, config, state, store, feed, listeners, stop) -> bool:
        """Train to the end of the epoch; True where the last call of it was told to stop."""
        listeners.on_epoch_begin(state.epoch)
        meter = ThroughputMeter()
        for first, count in self._steps.calls(state.step):
            listeners.on_train_batch_begin(first)
            started = time.perf_counter()
            parts, counts = next(feed)
            totals = self._calls.train(parts, counts, state.global_step, bool(stop)).numpy()
            state.seconds += time.perf_counter() - started
            self._advance(state, totals, count)
            meter.mark(int(totals[2]))
            listeners.on_train_batch_end(first + count - 1, _running(state))
            logs = {**_running(state), "images_per_second": meter.images_per_second}
            self._reporter.step(state.epoch, config.epochs, state.step, self._steps.per_epoch, logs)
            in_epoch = state.step < self._steps.per_epoch
            if in_epoch and (totals[3] or _is_due(config.checkpoint_every, first, state.step)):
                self._save(store, state)
            if in_epoch and totals[3]:
                self._stop(state, stop)
        self._end_epoch(config, state, store, listeners, meter)
        return bool(totals[3])

    def _advance(self, state: TrainState, totals, count: int) -> None:
        state.totals = [have + float(new) for have, new in zip(state.totals, totals, strict=False)]
        state.step += count
        state.global_step += count
        if not math.isfinite(state.totals[0]):
            raise InputError(
                f"the loss became {state.totals[0]} in steps {state.global_step - count} to {state.global_step - 1} "
                f"(epoch {state.epoch + 1}); try a lower --learning-rate; the last checkpoint is from before"
            )

    def _end_epoch(self, config, state, store, listeners, meter) -> None:
        self._end_audit(state)
        listeners.on_test_begin()
        validation = self._validate()
        listeners.on_test_end(validation)
        logs = {**_running(state), **validation}
        # Where an epoch was resumed or is one call long there is no clean interval; then all its seconds count.
        logs["images_per_second"] = meter.images_per_second or state.totals[2] / state.seconds
        logs["seconds"] = state.seconds
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        best = _is_best(state.history, logs)
        state.history.append({"epoch": state.epoch + 1, "step": state.global_step, **logs})
        state.epoch, state.step, state.seconds, state.totals = state.epoch + 1, 0, 0.0, [0.0, 0.0, 0.0]
        self._save(store, state, best)
        self._reporter.epoch(state.epoch - 1, config.epochs, logs)
        listeners.on_epoch_end(state.epoch - 1, logs)

    def _validate(self) -> dict[str, float]:
        if self._feeds.validation is None:
            return {}
        sums = [0.0, 0.0, 0.0]
        for parts, counts in feed_replicas(self._feeds.validation(), self._cluster):
            totals = self._calls.evaluate(parts, counts).numpy()
            sums = [have + float(new) for have, new in zip(sums, totals, strict=False)]
        return {"val_loss": sums[0] / sums[2], "val_accuracy": sums[1] / sums[2]}

    def _finished(self, config: LoopConfig, state: TrainState) -> bool:
        return state.epoch >= config.epochs or self._model.stop_training or _out_of_patience(config, state.history)

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
        audit.start()

    def _save(self, store: CheckpointStore | None, state: TrainState, best: bool = False) -> None:
        audit = self._calls.audit
        # Adding up takes all workers, also those that do not write.
        state.audit = audit.read() if audit is not None and state.step else None
        if store is not None:
            store.save(self._model, self._optimizer, state, best)

    def _stop(self, state: TrainState, stop: StopSignal) -> None:
        where = f"epoch {state.epoch + 1}, step {state.step}"
        raise StopRequested(stop.signum, f"stopped before {where}; the same command goes on from there")


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
