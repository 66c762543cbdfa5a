"""What a step costs the host, apart from the computation: a network of one small layer on a tiny batch.

Our loop stands beside Keras's own `fit` with the same network, strategy, batch and data in memory; XLA is off in both.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from pipeline.benchmark.machine import describe_machine, make_clusters
from pipeline.benchmark.results import OTHERS, Ratio, Results, Row, ratio_of
from pipeline.errors import pluralize
from pipeline.feed.dataset import make_resident_dataset
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.feed.resident import SplitArrays
from pipeline.train.checkpoint import TrainState
from pipeline.train.devices import Devices
from pipeline.train.loop import LoopConfig, Trainer
from pipeline.train.meter import ThroughputMeter, rates_of
from pipeline.train.prefetch import Feeds
from pipeline.train.progress import Reporter
from pipeline.train.step import CompiledSteps, StepConfig

IMAGE_SHAPE, CLASSES, BATCH_SIZE = (8, 8, 1), 10, 32
STEPS_PER_CALL = 1, 16
REPLICAS = 1, 2

_STEPS_A_SECOND = 512  # about what `fit` does


@dataclasses.dataclass(frozen=True)
class Contender:
    """`train(clock)` trains for one measurement; `clock` is a Keras callback that it calls."""

    name: str
    note: str
    group: str
    train: Callable[[keras.callbacks.Callback], object]


class StepClock(keras.callbacks.Callback):
    """Marks the steps done whenever a step (or a call of several) begins, from the second on.

    The first one waits for the feed to start, which is no cost of a step. It does not look at a step's end, for there
    `fit` would wait for the step's loss to hand it over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.meter = ThroughputMeter()
        self._last = 0

    def on_train_batch_begin(self, batch, logs=None):  # noqa: ARG002 (Keras names it)
        if batch > 0:
            self.meter.mark(batch - self._last)
        self._last = batch


def measure_host_cost(rounds: int = 5, seconds: float = 1.0) -> Results:
    """Measure a step of `fit` and of our loop, for 1 and for 2 replicas as far as there are devices.

    Args:
        rounds: how often each is measured; they take turns.
        seconds: a measurement has 512 steps for each of these.
    """
    steps = max(4 * max(STEPS_PER_CALL), int(_STEPS_A_SECOND * seconds))
    clusters = make_clusters(REPLICAS)
    contenders = [one for devices in clusters for one in _contenders(devices, _arrays(steps * BATCH_SIZE))]
    meters: list[list[ThroughputMeter]] = [[] for _ in contenders]
    for number in range(rounds + 1):
        for contender, found in zip(contenders, meters, strict=True):
            clock = StepClock()
            contender.train(clock)
            if number > 0:  # the first is warm-up: there functions are traced
                found.append(clock.meter)
    rows = [
        Row(one.name, one.note, rates_of(found), unit="step", group=one.group)
        for one, found in zip(contenders, meters, strict=True)
    ]
    machine = {
        **describe_machine(),
        "hardware": clusters[0].hardware(),
        "accelerator": clusters[0].accelerator,
        "batch_size": BATCH_SIZE,
    }
    return Results("host", rows, machine, _ratios(rows))


def _arrays(rows: int) -> SplitArrays:
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (rows, int(np.prod(IMAGE_SHAPE))), np.uint8)
    return SplitArrays(images, drawn.integers(0, CLASSES, rows, np.int32), np.arange(rows))


def _contenders(devices: Devices, arrays: SplitArrays) -> Iterator[Contender]:
    replicas = pluralize(devices.replicas.total, "replica")
    yield Contender(f"fit, {replicas}", "Keras's fit on arrays", OTHERS, _fit(devices, arrays))
    for steps_per_call in STEPS_PER_CALL:
        calls = pluralize(steps_per_call, "step")
        train = _our_loop(devices, arrays, steps_per_call)
        yield Contender(f"ours, {replicas}, {calls} a call", "feed, loop and step", "ours", train)


def _fit(devices: Devices, arrays: SplitArrays) -> Callable[[keras.callbacks.Callback], object]:
    images = arrays.images.reshape(-1, *IMAGE_SHAPE).astype(np.float32) / 255
    with devices.strategy.scope():
        model = _make_model()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return lambda clock: model.fit(images, arrays.labels, BATCH_SIZE, verbose=0, callbacks=[clock])


def _our_loop(
    devices: Devices, arrays: SplitArrays, steps_per_call: int
) -> Callable[[keras.callbacks.Callback], object]:
    with devices.strategy.scope():
        model, optimizer = _make_model(), keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
    steps = Steps(len(arrays), BATCH_SIZE, steps_per_call)
    step = StepConfig(BATCH_SIZE, steps_per_call, 0, IMAGE_SHAPE, Normalization(), "float32")

    def train(start):
        return make_resident_dataset(arrays, steps, 0, start, devices.replicas)

    trainer = Trainer(
        devices,
        model,
        optimizer,
        CompiledSteps(devices, model, optimizer, step),
        steps,
        Feeds(train, None, None, lambda rows: arrays.ids[rows]),
        Reporter(quiet=True),
    )
    return lambda clock: trainer.fit(LoopConfig(epochs=1), TrainState(), None, [clock])


def _make_model() -> keras.Model:
    inputs = keras.Input(IMAGE_SHAPE)
    logits = keras.layers.Dense(CLASSES, name="logits")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Softmax()(logits))


def _ratios(rows: Sequence[Row]) -> list[Ratio]:
    """The time of a step of ours over `fit`'s with as many replicas, so that less is better."""
    found, fit = [], None
    for row in rows:
        if row.group == OTHERS:
            fit = row
        else:
            inverse = ratio_of(fit, row)
            found.append(Ratio(f"time a step: {row.name}", fit.name, inverse.rounds))
    return found
