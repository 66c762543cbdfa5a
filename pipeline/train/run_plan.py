"""From a configuration to a plan: every "auto" decided once, for the data, the devices and the run's earlier start."""

import dataclasses
import pathlib
import platform
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf

from pipeline.errors import InputError, pluralize, size_text
from pipeline.feed.dataset import calls_ready
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.feed.order import fingerprint as order_fingerprint
from pipeline.feed.plan import FeedPlan, default_memory_budget, plan_feed
from pipeline.feed.stream import plan_pages
from pipeline.format.manifest import Manifest
from pipeline.splits import TRAIN, VAL
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices, choose_precision, device_memory, precision_remark
from pipeline.train.prefetch import AHEAD
from pipeline.train.stored import Identity, StoredRun

# An accelerator finishes a small step in less time than the host needs to start one, so it gets many per call.
_MAX_STEPS_PER_CALL = 16
_GPU_CALL_BYTES = 256 << 20  # several calls wait in memory, and steps on so many bytes last long anyway
# A CPU's steps are long, and a signal or a progress line should not wait for many of them: 1,024 images of 28x28 took
# half a second on two cores.
_CPU_CALL_BYTES = 1024 * 28 * 28
# Settings that may differ between workers: paths on their own disks, and what only the chief writes.
_OF_A_WORKER = ("data", "run_dir", "log_json", "tensorboard")


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A configuration with every "auto" decided for this data and these devices."""

    config: TrainConfig
    manifest: Manifest
    precision: str
    steps: Steps
    normalization: Normalization
    feed_plan: FeedPlan

    @property
    def compute_dtype(self) -> str:
        return keras.DTypePolicy(self.precision).compute_dtype

    def identity(self, network: str) -> Identity:
        """What two starts must share to be one run; `network` is the model's fingerprint."""
        config, streamed = self.config, self.feed_plan.feed == "stream"
        return Identity(
            data=self.manifest.sha256,
            batch_size=config.batch_size,
            steps_per_call=self.steps.steps_per_call,
            seed=config.seed,
            order=order_fingerprint(),
            network=network,
            learning_rate=config.peak_learning_rate,
            schedule=config.schedule,
            precision=self.precision,
            normalization=self.normalization,
            streamed=streamed,
            xla=config.xla,
            epochs=config.epochs if config.schedule != "constant" else None,
            memory_budget=self.feed_plan.budget if streamed else None,
        )

    def announcement(self, devices: Devices) -> list[str]:
        """The plan in lines for people."""
        steps = self.steps
        unseen = devices.accelerator == "CPU" and pathlib.Path("/proc/driver/nvidia").exists()
        padding = f"; the last one has {steps.padding} places of padding, with weight 0" if steps.padding else ""
        remarks = [
            "NVIDIA driver found, but TensorFlow detects no GPU; python -m pip install -e '.[cuda]'"
            if unseen
            else None,
            precision_remark(self.precision, devices.accelerator),
        ]
        return [
            f"{devices.describe()}; {self.precision}; run directory {self.config.run_dir}",
            *filter(None, remarks),
            self.feed_plan.describe(),
            f"{steps.num_examples:,} images per epoch, each once, in {steps.per_epoch} steps of {steps.batch_size}"
            f" ({steps.batch_size // devices.replicas.total} per replica), {steps.steps_per_call} per call{padding}",
        ]

    def settings(self) -> dict[str, Any]:
        """The configuration as given, in JSON's types."""
        return msgspec.to_builtins(self.config, enc_hook=str)

    def shared_settings(self, identity: Identity) -> dict[str, Any]:
        """What all workers must have the same values of."""
        settings = {name: value for name, value in self.settings().items() if name not in _OF_A_WORKER}
        return {**settings, **msgspec.to_builtins(identity)}

    def describe(self, devices: Devices) -> dict[str, Any]:
        """The content of config.json besides the identity, in JSON's types."""
        manifest = self.manifest
        return {
            "settings": self.settings(),
            "data": {
                "name": manifest.name,
                "manifest_sha256": manifest.sha256,
                "image_shape": list(manifest.image_shape),
                "class_names": list(manifest.class_names),
                "num_examples": {split.name: split.num_examples for split in manifest.splits.values()},
            },
            "normalization": self.normalization.to_dict(),
            "precision": self.precision,
            "feed": dataclasses.asdict(self.feed_plan),
            "strategy": {"name": devices.name, "replicas": devices.replicas.total, "devices": list(devices.names)},
            "hardware": devices.hardware(),
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
        }


def make_run_plan(
    config: TrainConfig, manifest: Manifest, devices: Devices, earlier: StoredRun | None = None
) -> RunPlan:
    """Decide what the configuration leaves open, as the first start did if there is an `earlier` one.

    Free memory and the fastest precision may differ now; the run must stay the same.

    Raises:
        InputError: the data cannot be trained on, the batch does not divide among the replicas, or it does not fit.
    """
    check_possible(config, manifest, devices)
    precision = config.precision
    if precision == "auto":
        precision = earlier.identity.precision if earlier else choose_precision("auto", devices.accelerator)
    budget = config.memory_budget or (earlier.feed.budget if earlier else default_memory_budget())
    steps = _plan_steps(config, manifest, devices, earlier)
    feed_plan = _plan_feed(config, manifest, devices, budget, earlier)
    _check_calls_fit(config, manifest, precision, steps, feed_plan)
    if feed_plan.feed == "stream":
        rows = [shard.num_examples for shard in manifest.split(TRAIN).shards]
        pages = plan_pages(rows, manifest.stride, budget, steps.batch_size * steps.steps_per_call)
        feed_plan = feed_plan.with_order(pages, steps.batch_size)
        if devices.num_workers > 1 and config.memory_budget is None and earlier is None:
            # The budget sets the windows and so the order, which must be the same on every worker.
            raise InputError("streaming on several workers needs the same --memory-budget on each; give one")
    mean, std = (manifest.pixel_mean, manifest.pixel_std) if config.normalization == "standard" else ((), ())
    return RunPlan(config, manifest, precision, steps, Normalization(config.normalization, mean, std), feed_plan)


def check_possible(config: TrainConfig, manifest: Manifest, devices: Devices) -> None:
    """Check that this data can be trained on, on these devices with this configuration; InputError if not."""
    split = manifest.split(TRAIN)
    if not split.labelled:
        raise InputError(f"{config.data}: the split {TRAIN!r} has no labels to learn from")
    if manifest.num_classes < 2:
        raise InputError(f"{config.data}: every label is {manifest.class_names[0]}; a classifier needs two classes")
    replicas = devices.replicas.total
    if config.batch_size % replicas:
        raise InputError(
            f"--batch-size {config.batch_size} does not divide among {replicas} replicas; "
            f"use {config.batch_size // replicas * replicas or replicas}"
        )
    if devices.num_workers > 1 and config.feed == "device":
        raise InputError("--feed device: TensorFlow cannot copy a table of bytes to other workers; use --feed host")


def default_steps_per_call(accelerator: str, batch_bytes: int) -> int:
    """Maximum steps per host call if none is given; `batch_bytes` are those of a global batch, as uint8."""
    call_bytes = _GPU_CALL_BYTES if accelerator == "GPU" else _CPU_CALL_BYTES
    return min(_MAX_STEPS_PER_CALL, max(1, call_bytes // batch_bytes))


def _plan_steps(config: TrainConfig, manifest: Manifest, devices: Devices, earlier: StoredRun | None) -> Steps:
    """The steps in even calls, or in calls of the earlier start's length if no other was requested.

    A stored length may not divide the epoch evenly, and the run's checkpoints lie between calls of that length.
    """
    steps = Steps(manifest.split(TRAIN).num_examples, config.batch_size)
    if earlier is not None and config.steps_per_call in (None, earlier.identity.steps_per_call):
        return dataclasses.replace(steps, steps_per_call=earlier.identity.steps_per_call)
    batch_bytes = config.batch_size * manifest.layout.image_bytes
    return steps.in_even_calls(config.steps_per_call or default_steps_per_call(devices.accelerator, batch_bytes))


def _plan_feed(
    config: TrainConfig, manifest: Manifest, devices: Devices, budget: int, earlier: StoredRun | None
) -> FeedPlan:
    feed, several = config.feed, devices.num_workers > 1
    if feed == "auto" and earlier is not None:
        feed = earlier.feed.feed
        if feed == "device" and (several or devices.accelerator == "CPU"):
            feed = "host"  # the same run without the devices that held its data
    validation = manifest.splits.get(VAL)
    feed_plan = plan_feed(
        num_examples=manifest.split(TRAIN).num_examples + (validation.num_examples if validation else 0),
        image_bytes=manifest.layout.image_bytes,
        feed=feed,
        budget=budget,
        device_memory=None if several else device_memory(devices),
        replicas=devices.replicas.local,
    )
    return dataclasses.replace(feed_plan, reason="as at the first start") if feed != config.feed else feed_plan


def _check_calls_fit(
    config: TrainConfig, manifest: Manifest, precision: str, steps: Steps, feed_plan: FeedPlan
) -> None:
    """Raise InputError for batches that fill the memory by themselves: they are padded, however few rows there are."""
    image_bytes, on_host = manifest.layout.image_bytes, config.scale == "host"
    if feed_plan.feed == "device":
        image_bytes = tf.int32.size  # its index
    elif on_host:
        image_bytes *= tf.as_dtype(keras.DTypePolicy(precision).compute_dtype).size
    calls, per_call = calls_ready(on_host) + AHEAD + 1, steps.steps_per_call
    held = calls * per_call * steps.batch_size * image_bytes
    if held > feed_plan.budget:
        raise InputError(
            f"--batch-size {steps.batch_size}: {calls} calls of {pluralize(per_call, 'step')} take "
            f"{size_text(held)}, over the memory budget of {size_text(feed_plan.budget)}; "
            f"use a smaller one{', or fewer --steps-per-call' * (per_call > 1)}"
        )
