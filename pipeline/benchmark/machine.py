"""What a figure must be read with: processor, devices, versions and settings."""

import contextlib
import os
import platform
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.train.devices import Devices, make_devices
from pipeline.train.environment import processor_flags, processor_name
from pipeline.train.setup import RunPlan

# Those that decide how fast a step is; a processor's name ("AMD EPYC" in a virtual machine) may not tell.
_INSTRUCTIONS = frozenset(("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "bf16", "sve"))


def describe_machine() -> dict[str, Any]:
    """The host and the versions, for every kind of measurement."""
    return {
        "processor": processor_name(),
        "instructions": sorted(processor_flags() & _INSTRUCTIONS),
        "cores": usable_cores(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "xla": False,
        "precision": "float32",
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def describe_training(resolved: RunPlan, devices: Devices) -> dict[str, Any]:
    """The same with the devices, and with the settings that a configuration came to."""
    return {
        **describe_machine(),
        "hardware": devices.hardware(),
        "devices": list(devices.names),
        "accelerator": devices.accelerator,
        "strategy": devices.name,
        "replicas": devices.replicas.total,
        "precision": resolved.precision,
        "batch_size": resolved.config.batch_size,
        "steps_per_call": resolved.steps.steps_per_call,
        "feed": resolved.plan.feed,
        "scale": resolved.config.scale,
        "num_examples": resolved.steps.num_examples,
        "image_shape": list(resolved.manifest.image_shape),
    }


def make_clusters(counts: Sequence[int]) -> list[Devices]:
    """One devices for each number of replicas, ascending, that there are devices for: GPUs, or else logical CPUs.

    Call it before anything else uses TensorFlow, after which logical CPUs cannot be added.
    """
    made = []
    for count in sorted(counts, reverse=True):  # the largest first, as it adds the devices that the others use too
        with contextlib.suppress(InputError):
            made.append(make_devices("mirrored" if count > 1 else "one", count))
    return made[::-1]


def usable_cores() -> int:
    """Processors that this process may run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
