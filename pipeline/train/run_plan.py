"""From a configuration to a plan: every "auto" decided once, for the data, the devices and the run's earlier start."""

import dataclasses
import pathlib
import platform
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf

import pipeline
from models.step_state import StepState
from pipeline.augment.choice import choose_preset, is_dark_background
from pipeline.augment.strengths import Augmentation, parse_augmentation
from pipeline.augment.transform import augment
from pipeline.errors import InputError, pluralize, size_text
from pipeline.feed.dataset import calls_ready
from pipeline.feed.holdout import Holdout
from pipeline.feed.normalize import Normalization
from pipeline.feed.order import Steps
from pipeline.feed.order import fingerprint as order_fingerprint
from pipeline.feed.plan import FeedPlan, default_memory_budget, plan_feed
from pipeline.feed.stream import plan_pages, read_sample
from pipeline.format.manifest import Manifest, Reading
from pipeline.mirror import as_given
from pipeline.splits import TRAIN, VAL
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices, choose_precision, device_memory, precision_remark
from pipeline.train.prefetch import AHEAD
from pipeline.train.recipe import AUTO, Recipe
from pipeline.train.stored import Identity, StoredRun

# An accelerator finishes a small step in less time than the host needs to start one, so it gets many per call.
_MAX_STEPS_PER_CALL = 16
# Several calls wait in memory, and one is augmented at once: in float32, and in several copies meanwhile.
_GPU_CALL_BYTES = 64 << 20
# A CPU's steps are long, and a signal or a progress line should not wait for many of them: 1,024 images of 28x28 took
# half a second on two cores.
_CPU_CALL_BYTES = 1024 * 28 * 28
# Settings that may differ between workers: paths on their own disks, and what only the chief writes.
_OF_A_WORKER = ("data", "run_dir", "cache_dir", "log_json", "tensorboard", "profile", "log_to")
_OF_ITS_OWN = ("batch_size", "learning_rate", "schedule", "epochs")  # recorded beside the rest of the recipe
_OF_A_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe) if field.name not in _OF_ITS_OWN)
_MAX_ROWS = 2**31  # the row of an example is an int32 in a feed's elements
_IMAGES_LOOKED_AT = 256  # to choose an augmentation


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A configuration with every "auto" decided for this data and these devices."""

    config: TrainConfig
    manifest: Manifest
    precision: str
    steps: Steps
    normalization: Normalization
    feed_plan: FeedPlan
    holdout: Holdout
    augmentation: Augmentation
    dark_background: bool = True

    @property
    def compute_dtype(self) -> str:
        return keras.DTypePolicy(self.precision).compute_dtype

    def augmented(self, images: tf.Tensor, state: StepState) -> tf.Tensor:
        """uint8 [n, H, W, C] to augmented and normalized images in the compute dtype."""
        if not self.augmentation:
            return self.normalization.apply(images, self.compute_dtype)
        values = augment(tf.cast(images, tf.float32) / 255, self.augmentation, state, self.dark_background)
        return self.normalization.apply(values * 255, self.compute_dtype)

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
            recipe={**{name: getattr(config, name) for name in _OF_A_RECIPE}, "augment": self.augmentation.text()},
            precision=self.precision,
            normalization=self.normalization,
            streamed=streamed,
            xla=config.xla,
            epochs=config.epochs if config.schedule != "constant" else None,
            memory_budget=self.feed_plan.budget if streamed else None,
            weights_from=None if config.weights_from is None else str(config.weights_from),
            holdout=None if self.holdout.text == Holdout.default(self.manifest) else self.holdout.describe(),
        )

    def announcement(self, devices: Devices) -> list[str]:
        """The plan in lines for people."""
        steps = self.steps
        unseen = devices.accelerator == "CPU" and pathlib.Path("/proc/driver/nvidia").exists()
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
            f"network {self.config.model}; augmentation {self.augmentation.text()}",
            self._validation_text(),
            f"{steps.num_examples:,} images per epoch in {steps.per_epoch} steps of {steps.batch_size}"
            f" ({steps.batch_size // devices.replicas.total} per replica), {steps.steps_per_call} per call",
        ]

    def _validation_text(self) -> str:
        holdout, manifest = self.holdout, self.manifest
        if holdout.uses_val:
            return f"validation: the split {VAL}, {manifest.split(VAL).num_examples:,} rows"
        if holdout.from_train:
            held = manifest.split(TRAIN).num_examples - self.steps.num_examples
            return f"validation: {holdout.describe()}, {held:,} rows of {TRAIN} that are not trained on"
        if holdout.trains_on_val:
            return f"no validation: the split {VAL} is trained on too"
        return "no validation; --holdout random:0.1 holds out a tenth of each class"

    def settings(self) -> dict[str, Any]:
        """The configuration as given, in JSON's types."""
        return msgspec.to_builtins(self.config, enc_hook=as_given)

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
                "dark_background": self.dark_background,
                "reading": msgspec.to_builtins(manifest.reading or Reading()),
                "num_examples": {split.name: split.num_examples for split in manifest.splits.values()},
            },
            "holdout": {"rows": self.holdout.describe(), "num_trained": self.steps.num_examples},
            "normalization": self.normalization.to_dict(),
            "precision": self.precision,
            "feed": dataclasses.asdict(self.feed_plan),
            "strategy": {"name": devices.name, "replicas": devices.replicas.total, "devices": list(devices.names)},
            "hardware": devices.hardware(),
            "versions": {
                "python": platform.python_version(),
                **{module.__name__: module.__version__ for module in (tf, keras, np, pipeline)},
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
    holdout = Holdout.choose(config.holdout, config.final, config.group_size, manifest)
    precision = config.precision
    if precision == "auto":
        precision = earlier.identity.precision if earlier else choose_precision("auto", devices.accelerator)
    budget = config.memory_budget or (earlier.feed.budget if earlier else default_memory_budget())
    steps = _plan_steps(config, manifest, holdout, devices, earlier)
    feed_plan = _plan_feed(config, manifest, holdout, devices, budget, earlier)
    _check_calls_fit(config, manifest, precision, steps, feed_plan, devices.replicas.num_workers)
    if feed_plan.feed == "stream":
        rows = [shard.num_examples for shard in manifest.split(TRAIN).shards]
        share = steps.share_of(0, devices.replicas.num_workers)
        pages = plan_pages(rows, manifest.stride, budget, steps.steps_per_call, share)
        feed_plan = feed_plan.with_order(pages, steps.batch_size)
        if devices.num_workers > 1 and config.memory_budget is None and earlier is None:
            # The budget sets the windows and so the order, which must be the same on every worker.
            raise InputError("streaming on several workers needs the same --memory-budget on each; give one")
    mean, std = (manifest.pixel_mean, manifest.pixel_std) if config.normalization == "standard" else ((), ())
    normalization = Normalization(config.normalization, mean, std)
    augmentation, dark = _plan_augmentation(config, manifest, earlier)
    return RunPlan(config, manifest, precision, steps, normalization, feed_plan, holdout, augmentation, dark)


def check_possible(config: TrainConfig, manifest: Manifest, devices: Devices) -> None:
    """Check that this data can be trained on, on these devices with this configuration; InputError if not."""
    split = manifest.split(TRAIN)
    if not split.labelled:
        raise InputError(f"{config.data}: the split {TRAIN!r} has no labels to learn from")
    if split.num_examples >= _MAX_ROWS:
        raise InputError(f"{config.data}: {split.num_examples:,} rows to train on, more than {_MAX_ROWS - 1:,}")
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


def _plan_steps(
    config: TrainConfig, manifest: Manifest, holdout: Holdout, devices: Devices, earlier: StoredRun | None
) -> Steps:
    """The steps in even calls, or in calls of the earlier start's length if no other was requested.

    A stored length may not divide the epoch evenly, and the run's checkpoints lie between calls of that length.
    """
    split = manifest.split(TRAIN)
    more = manifest.split(VAL).num_examples if holdout.trains_on_val else 0
    num_held = holdout.num_rows(split.class_counts) if holdout.from_train else 0
    steps = Steps(split.num_examples + more - num_held, config.batch_size)
    if earlier is not None and config.steps_per_call in (None, earlier.identity.steps_per_call):
        return dataclasses.replace(steps, steps_per_call=earlier.identity.steps_per_call)
    batch_bytes = config.batch_size * manifest.layout.image_bytes
    return steps.in_even_calls(config.steps_per_call or default_steps_per_call(devices.accelerator, batch_bytes))


def _plan_feed(
    config: TrainConfig,
    manifest: Manifest,
    holdout: Holdout,
    devices: Devices,
    budget: int,
    earlier: StoredRun | None,
) -> FeedPlan:
    feed, several = config.feed, devices.num_workers > 1
    if feed == "auto" and earlier is not None:
        feed = earlier.feed.feed
        if feed == "device" and (several or devices.accelerator == "CPU"):
            feed = "host"  # the same run without the devices that held its data
    with_val = holdout.uses_val or holdout.trains_on_val
    feed_plan = plan_feed(
        num_examples=sum(manifest.split(name).num_examples for name in [TRAIN, *[VAL] * with_val]),
        image_bytes=manifest.layout.image_bytes,
        feed=feed,
        budget=budget,
        device_memory=None if several else device_memory(devices),
        replicas=devices.replicas.local,
    )
    if feed_plan.feed == "stream" and holdout.in_memory:
        option = f"--holdout {holdout.text}" if holdout.from_train else "--final"
        advice = "omit --feed stream" if config.feed == "stream" else "raise --memory-budget"
        raise InputError(
            f"{option} divides or joins splits in memory, and the feed is a stream ({feed_plan.reason}); "
            f"{advice}, or convert with --val-fraction (and --val-group-size), or without it for --final"
        )
    return dataclasses.replace(feed_plan, reason="as at the first start") if feed != config.feed else feed_plan


def _plan_augmentation(config: TrainConfig, manifest: Manifest, earlier: StoredRun | None) -> tuple[Augmentation, bool]:
    """The augmentation, and whether the images' background is dark."""
    images = read_sample(config.data, manifest, TRAIN, _IMAGES_LOOKED_AT).images.reshape(-1, *manifest.image_shape)
    text = config.augment
    if text == AUTO:
        # A run of an earlier version recorded none, and is refused with its other settings.
        text = str(earlier.identity.recipe.get("augment", "none")) if earlier else choose_preset(images)
    return parse_augmentation(text), is_dark_background(images)


def _check_calls_fit(
    config: TrainConfig, manifest: Manifest, precision: str, steps: Steps, feed_plan: FeedPlan, num_workers: int
) -> None:
    """Raise InputError for batches that fill the memory by themselves: they are padded, however few rows there are."""
    image_bytes, on_host = manifest.layout.image_bytes, config.scale == "host"
    if feed_plan.feed == "device":
        image_bytes = tf.int32.size  # its index
    elif on_host:
        image_bytes *= tf.as_dtype(keras.DTypePolicy(precision).compute_dtype).size
    calls, per_call = calls_ready(on_host) + AHEAD + 1, steps.steps_per_call
    held = calls * per_call * steps.batch_size // num_workers * image_bytes
    if held > feed_plan.budget:
        raise InputError(
            f"--batch-size {steps.batch_size}: {calls} calls of {pluralize(per_call, 'step')} take "
            f"{size_text(held)}, over the memory budget of {size_text(feed_plan.budget)}; "
            f"use a smaller one{', or fewer --steps-per-call' * (per_call > 1)}"
        )
