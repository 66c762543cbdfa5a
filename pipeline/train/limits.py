"""What this data and these devices cannot do, refused in one line before anything is loaded."""

from pipeline.convert.manifest import Manifest
from pipeline.errors import InputError
from pipeline.feed.dataset import CALLS_READY
from pipeline.feed.order import Steps
from pipeline.feed.plan import size_text
from pipeline.train.config import TrainConfig
from pipeline.train.strategy import Cluster

TRAIN, VALIDATION = "train", "val"
CALLS_ALIVE = CALLS_READY + 3  # those, two handed over, and one trained on


def check_possible(config: TrainConfig, manifest: Manifest, cluster: Cluster) -> None:
    """Raise InputError where the data cannot be trained on, or not on these devices with this configuration."""
    split = manifest.split(TRAIN)
    if not split.labelled:
        raise InputError(f"{config.data}: the split {TRAIN!r} has no labels, so nothing can be learned from it")
    if manifest.num_classes < 2:
        raise InputError(f"{config.data}: every label is {manifest.class_names[0]}; a classifier needs two classes")
    replicas = cluster.replicas.total
    if config.batch_size % replicas:
        raise InputError(
            f"--batch-size {config.batch_size} does not divide among {replicas} replicas; "
            f"use {config.batch_size // replicas * replicas or replicas}"
        )
    if config.xla and replicas > 1:
        raise InputError(f"--xla compiles the step of one replica, not of {replicas}; leave it out")
    if cluster.num_workers > 1 and config.feed == "device":
        raise InputError("--feed device: TensorFlow cannot copy a table of bytes to other workers; use --feed host")


def check_calls(steps: Steps, image_bytes: int, budget: int) -> None:
    """Raise InputError for batches that fill the memory by themselves: they are padded, however few rows there are."""
    held = CALLS_ALIVE * steps.steps_per_call * steps.batch_size * image_bytes
    if held > budget:
        raise InputError(
            f"--batch-size {steps.batch_size}: {CALLS_ALIVE} calls of {steps.steps_per_call} steps take "
            f"{size_text(held)}, over the memory budget of {size_text(budget)}; use a smaller one"
        )
