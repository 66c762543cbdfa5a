"""What this data and these devices cannot do, refused in one line before anything is loaded."""

from pipeline.errors import InputError, pluralize
from pipeline.feed.dataset import calls_ready
from pipeline.feed.order import Steps
from pipeline.feed.plan import size_text
from pipeline.format.manifest import Manifest
from pipeline.splits import TRAIN
from pipeline.train.config import TrainConfig
from pipeline.train.devices import Devices

_HANDED_OVER = 3  # two on their way, and one trained on


def check_possible(config: TrainConfig, manifest: Manifest, devices: Devices) -> None:
    """Raise InputError where the data cannot be trained on, or not on these devices with this configuration."""
    split = manifest.split(TRAIN)
    if not split.labelled:
        raise InputError(f"{config.data}: the split {TRAIN!r} has no labels, so nothing can be learned from it")
    if manifest.num_classes < 2:
        raise InputError(f"{config.data}: every label is {manifest.class_names[0]}; a classifier needs two classes")
    replicas = devices.replicas.total
    if config.batch_size % replicas:
        raise InputError(
            f"--batch-size {config.batch_size} does not divide among {replicas} replicas; "
            f"use {config.batch_size // replicas * replicas or replicas}"
        )
    if config.xla and replicas > 1:
        raise InputError(f"--xla compiles the step of one replica, not of {replicas}; leave it out")
    if devices.num_workers > 1 and config.feed == "device":
        raise InputError("--feed device: TensorFlow cannot copy a table of bytes to other workers; use --feed host")


def check_calls(steps: Steps, image_bytes: int, budget: int, scaled_on_host: bool = False) -> None:
    """Raise InputError for batches that fill the memory by themselves: they are padded, however few rows there are.

    `image_bytes` are those of an image as the feed hands it over.
    """
    calls = calls_alive(scaled_on_host)
    held = calls * steps.steps_per_call * steps.batch_size * image_bytes
    if held > budget:
        per_call = steps.steps_per_call
        raise InputError(
            f"--batch-size {steps.batch_size}: {calls} calls of {pluralize(per_call, 'step')} take "
            f"{size_text(held)}, over the memory budget of {size_text(budget)}; "
            f"use a smaller one{', or fewer --steps-per-call' * (per_call > 1)}"
        )


def calls_alive(scaled_on_host: bool = False) -> int:
    """Calls of a feed that are in memory at a time, at most."""
    return calls_ready(scaled_on_host) + _HANDED_OVER
