"""What a rate must be read with: processor, devices, versions and settings."""

import datetime
import os
import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.train.devices import Devices
from pipeline.train.environment import processor_flags, processor_name
from pipeline.train.setup import RunPlan

# They decide how fast a step is, and a virtual machine's processor name ("AMD EPYC") may not tell which it has.
_INSTRUCTIONS = frozenset(("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "bf16", "sve"))


def describe(plan: RunPlan, devices: Devices) -> dict[str, Any]:
    """Date, machine, data and versions, for JSON."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "instructions": sorted(processor_flags() & _INSTRUCTIONS),
        # Those that this process may run on, which may be fewer than the machine has.
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "hardware": devices.hardware(),
        "strategy": devices.name,
        "replicas": devices.replicas.total,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "num_examples": plan.steps.num_examples,
        "image_shape": list(plan.manifest.image_shape),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def describe_with_settings(plan: RunPlan, devices: Devices) -> dict[str, Any]:
    """The same with the settings of training that all rows share."""
    return {
        **describe(plan, devices),
        "batch_size": plan.steps.batch_size,
        "steps_per_call": plan.steps.steps_per_call,
        "precision": plan.precision,
        "xla": plan.config.xla,
        "feed": plan.plan.feed,
        "scale": plan.config.scale,
    }
