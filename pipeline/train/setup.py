"""From a configuration to a trainer: the feed, the network and the optimizer that it asks for."""

import dataclasses
import platform
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.cnn import make_cnn
from models.dropout import StepDropout
from models.fingerprint import network_fingerprint
from pipeline.errors import InputError
from pipeline.feed.dataset import (
    HostScaling,
    Position,
    make_evaluation_dataset,
    make_resident_dataset,
    make_stream_dataset,
)
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.feed.order import fingerprint as order_fingerprint
from pipeline.feed.plan import FeedPlan, default_memory_budget, plan_feed
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import ShardReader, plan_pages
from pipeline.format.manifest import Manifest
from pipeline.splits import TRAIN, VAL
from pipeline.train.audit import EpochAudit, ReadIds
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices, choose_precision, device_memory
from pipeline.train.limits import check_calls, check_possible
from pipeline.train.loop import Trainer
from pipeline.train.loss_scale import ReplicaSafeLossScaleOptimizer
from pipeline.train.prefetch import Feeds
from pipeline.train.progress import Reporter
from pipeline.train.recovery import make_recoverable
from pipeline.train.step import CompiledSteps, StepConfig

# An accelerator finishes a small step in less time than the host needs to start one, so it gets many at once.
_MAX_STEPS_PER_CALL = 16
_GPU_CALL_BYTES = 256 << 20  # some of them wait in memory, and steps on so many bytes last long anyway
# A CPU's steps are long, and a signal or a progress line should not wait for many of them: 1,024 images of 28x28 took
# half a second on two cores.
_CPU_CALL_BYTES = 1024 * 28 * 28
_WARMUP_SHARE = 20  # one part in so many of all steps


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A configuration with every "auto" decided for this data and these devices."""

    config: TrainConfig
    manifest: Manifest
    precision: str
    steps: Steps
    normalization: Normalization
    plan: FeedPlan

    def identity(self) -> dict[str, Any]:
        """What two starts must share to be one run. Devices and strategy may change between them."""
        config = self.config
        found = {
            "data": self.manifest.sha256,
            "batch_size": config.batch_size,
            "steps_per_call": self.steps.steps_per_call,
            "seed": config.seed,
            "order": order_fingerprint(),
            "learning_rate": config.peak_learning_rate,
            "schedule": config.schedule,
            "precision": self.precision,
            "normalization": self.normalization.to_dict(),
            "streamed": self.plan.feed == "stream",
        }
        if config.xla:
            found["xla"] = True  # from one key and counter XLA draws other numbers, so dropout's masks differ
        if config.schedule != "constant":
            found["epochs"] = config.epochs  # the rate of each step depends on where the run ends
        if self.plan.feed == "stream":
            found["memory_budget"] = self.plan.budget  # it sets the windows, and so the order
        return found

    def describe(self, devices: Devices, model: keras.Model) -> dict[str, Any]:
        """The content of config.json for a run of this model."""
        manifest = self.manifest
        return {
            "identity": {**self.identity(), "network": network_fingerprint(model)},
            "settings": {name: _plain(value) for name, value in dataclasses.asdict(self.config).items()},
            "data": {
                "name": manifest.name,
                "manifest_sha256": manifest.sha256,
                "image_shape": list(manifest.image_shape),
                "class_names": list(manifest.class_names),
                "num_examples": {split.name: split.num_examples for split in manifest.splits.values()},
            },
            "normalization": self.normalization.to_dict(),
            "precision": self.precision,
            "feed": dataclasses.asdict(self.plan),
            "strategy": {"name": devices.name, "replicas": devices.replicas.total, "devices": list(devices.names)},
            "hardware": devices.hardware(),
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
        }


def inherit_choices(config: TrainConfig, earlier: dict[str, Any] | None) -> TrainConfig:
    """The configuration with what is left to "auto" as the run's first start decided it, given that one's identity.

    What is free memory, or the fastest precision, may differ now; the run must stay the same.
    """
    if earlier is None:
        return config
    changes = {}
    if config.precision == "auto":
        changes["precision"] = earlier.get("precision", "auto")
    if config.steps_per_call is None:
        changes["steps_per_call"] = earlier.get("steps_per_call")
    if config.feed == "auto" and earlier.get("streamed"):
        changes["feed"] = "stream"
    if config.memory_budget is None:
        changes["memory_budget"] = earlier.get("memory_budget")
    return dataclasses.replace(config, **changes)


def make_run_plan(
    config: TrainConfig, manifest: Manifest, devices: Devices, earlier: dict[str, Any] | None = None
) -> RunPlan:
    """Decide what the configuration leaves open; `earlier` is the identity of the run to go on with, if there is one.

    Raises:
        InputError: the data cannot be trained on, the batch does not divide among the replicas, or it does not fit.
    """
    config = inherit_choices(config, earlier)
    check_possible(config, manifest, devices)
    split, several = manifest.split(TRAIN), devices.num_workers > 1
    steps = Steps(split.num_examples, config.batch_size)
    batch_bytes = config.batch_size * manifest.layout.image_bytes
    per_call = config.steps_per_call or default_steps_per_call(devices.accelerator, batch_bytes)
    steps = _in_calls(steps, per_call, earlier or {})
    budget = config.memory_budget or default_memory_budget()
    validation = manifest.splits.get(VAL)
    plan = plan_feed(
        num_examples=split.num_examples + (validation.num_examples if validation else 0),
        image_bytes=manifest.layout.image_bytes,
        feed=config.feed,
        budget=budget,
        device_memory=None if several else device_memory(devices),
        replicas=devices.replicas.local,
    )
    check_calls(steps, _bytes_fed(config, plan, manifest, devices), budget, config.scale == "host")
    if plan.feed == "stream":
        rows = [shard.num_examples for shard in split.shards]
        pages = plan_pages(rows, manifest.stride, plan.budget, steps.batch_size * steps.steps_per_call)
        plan = plan.with_order(pages, steps.batch_size)
    if several and plan.feed == "stream" and config.memory_budget is None:
        # The budget sets the windows and so the order, which must be the same on every worker.
        raise InputError("streaming on several workers needs the same --memory-budget on each; give one")
    mean, std = (manifest.pixel_mean, manifest.pixel_std) if config.normalization == "standard" else ((), ())
    return RunPlan(
        config=config,
        manifest=manifest,
        precision=choose_precision(config.precision, devices.accelerator),
        steps=steps,
        normalization=Normalization(config.normalization, mean, std),
        plan=plan,
    )


def _bytes_fed(config: TrainConfig, plan: FeedPlan, manifest: Manifest, devices: Devices) -> int:
    """Bytes of an image in what the feed hands over."""
    if plan.feed == "device":
        return tf.int32.size  # its index
    if config.scale != "host":
        return manifest.layout.image_bytes
    policy = keras.DTypePolicy(choose_precision(config.precision, devices.accelerator))
    return manifest.layout.image_bytes * tf.as_dtype(policy.compute_dtype).size


def _in_calls(steps: Steps, most: int, earlier: dict[str, Any]) -> Steps:
    """The steps in even calls of at most so many, or in calls of just so many where the earlier run has them.

    A stored number may not cut the epoch evenly, and the run's checkpoints lie between calls of that length.
    """
    if most == earlier.get("steps_per_call"):
        return dataclasses.replace(steps, steps_per_call=most)
    return steps.in_even_calls(most)


def default_steps_per_call(accelerator: str, batch_bytes: int) -> int:
    """Steps of a host call where nothing is asked for; `batch_bytes` are those of a global batch, as uint8."""
    if accelerator == "GPU":
        return min(_MAX_STEPS_PER_CALL, max(1, _GPU_CALL_BYTES // batch_bytes))
    return min(_MAX_STEPS_PER_CALL, max(1, _CPU_CALL_BYTES // batch_bytes))


def make_model(resolved: RunPlan, devices: Devices) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The network and its optimizer, with their variables on every replica; the same ones for the same seed."""
    config, manifest = resolved.config, resolved.manifest
    keras.utils.set_random_seed(config.seed % 2**32)
    with devices.strategy.scope():
        model = make_cnn(manifest.image_shape, manifest.num_classes, resolved.precision, StepDropout)
        optimizer = keras.optimizers.Adam(resolved.config.peak_learning_rate)
        if resolved.config.schedule != "constant":
            make_recoverable(optimizer, _schedule(resolved))
        if resolved.precision == "mixed_float16":
            optimizer = ReplicaSafeLossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        # Callbacks look for the optimizer on the model; training itself does not go through fit().
        model.compile(optimizer, auto_scale_loss=False, jit_compile=False)
    return model, optimizer


def make_feeds(resolved: RunPlan, devices: Devices) -> Feeds:
    """Load the data as planned, or open it where it is streamed."""
    on_host = resolved.config.scale == "host"
    compute_dtype = keras.DTypePolicy(resolved.precision).compute_dtype
    scaling = HostScaling(resolved.normalization, resolved.manifest.image_shape, compute_dtype) if on_host else None
    train, table, read_ids = _make_train(resolved, devices, scaling)
    return Feeds(train, _make_validation(resolved, devices, scaling), table, read_ids)


def make_compiled_steps(resolved: RunPlan, devices: Devices, model, optimizer, feeds: Feeds) -> CompiledSteps:
    """The compiled training and evaluation of the model on elements of these feeds."""
    config = StepConfig(
        batch_size=resolved.config.batch_size,
        steps_per_call=resolved.steps.steps_per_call,
        seed=resolved.config.seed,
        image_shape=resolved.manifest.image_shape,
        normalization=resolved.normalization,
        compute_dtype=keras.DTypePolicy(resolved.precision).compute_dtype,
        jit_compile=resolved.config.xla,
    )
    audit = EpochAudit(devices.strategy, resolved.steps.num_examples) if resolved.config.audit else None
    return CompiledSteps(devices, model, optimizer, config, feeds.table, audit)


def make_trainer(resolved: RunPlan, devices: Devices, model, optimizer, reporter: Reporter) -> Trainer:
    """The loop that trains the model on the data that `resolved` names, which are loaded for it."""
    feeds = make_feeds(resolved, devices)
    calls = make_compiled_steps(resolved, devices, model, optimizer, feeds)
    return Trainer(devices, model, optimizer, calls, resolved.steps, feeds, reporter)


def make_inference_model(model: keras.Model, manifest: Manifest) -> keras.Model:
    """A float32 copy of plain Keras layers, off every strategy: for evaluation, export and use elsewhere."""
    twin = make_cnn(manifest.image_shape, manifest.num_classes)
    twin.set_weights(model.get_weights())
    return twin


def _make_train(
    resolved: RunPlan, devices: Devices, scaling: HostScaling | None
) -> tuple[Callable[[Position], tf.data.Dataset], SplitArrays | None, ReadIds]:
    """The training feed from any position on, the table that the device feed looks examples up in, and the ids."""
    config, steps, manifest = resolved.config, resolved.steps, resolved.manifest
    if resolved.plan.feed == "stream":
        reader = ShardReader(config.data, manifest, TRAIN)
        budget = resolved.plan.budget
        return (
            lambda at: make_stream_dataset(reader, budget, steps, config.seed, at, devices.replicas, scaling),
            None,
            lambda rows: [int(reader.read_rows(row, row + 1).ids[0]) for row in rows],
        )
    arrays = load_split(config.data, manifest, TRAIN)
    on_device = resolved.plan.feed == "device"
    held, scaling = (None, None) if on_device else (arrays, scaling)
    return (
        lambda at: make_resident_dataset(held, steps, config.seed, at, devices.replicas, scaling),
        arrays if on_device else None,
        lambda rows: arrays.ids[rows],
    )


def _make_validation(
    resolved: RunPlan, devices: Devices, scaling: HostScaling | None
) -> Callable[[], tf.data.Dataset] | None:
    manifest, config = resolved.manifest, resolved.config
    split = manifest.splits.get(VAL)
    if split is None or not split.labelled:
        return None
    # Validation is read from disk as it goes where training is, so that both together keep to the budget.
    streamed = resolved.plan.feed == "stream"
    source = (ShardReader if streamed else load_split)(config.data, manifest, VAL)
    steps = Steps(split.num_examples, config.batch_size)
    steps = steps.in_even_calls(resolved.steps.steps_per_call)
    return lambda: make_evaluation_dataset(source, steps, devices.replicas, scaling)


def _schedule(resolved: RunPlan) -> keras.optimizers.schedules.LearningRateSchedule:
    config = resolved.config
    total = resolved.steps.per_epoch * config.epochs
    warmup = max(1, total // _WARMUP_SHARE)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.peak_learning_rate / 10,
        warmup_target=config.peak_learning_rate,
        warmup_steps=warmup,
        decay_steps=max(1, total - warmup),
        alpha=0.01,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
