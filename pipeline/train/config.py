"""What a training run is told, validated before anything heavy is imported."""

import argparse
import dataclasses
import math
import pathlib
import re

from pipeline.errors import InputError
from pipeline.feed.normalize import KINDS
from pipeline.feed.plan import FEEDS

STRATEGIES = ("auto", "one", "mirrored", "multiworker")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
SCHEDULES = ("constant", "cosine")
SCALES = ("device", "host")

_SEEDS = 2**63
_COUNTS = 2**31  # steps, and rows of a batch, are int32 in places


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a run. `batch_size` is global; `learning_rate` None follows the batch size (`peak_learning_rate`)."""

    data: pathlib.Path
    run_dir: pathlib.Path
    strategy: str = "auto"
    devices: int | None = None
    precision: str = "auto"
    epochs: int = 6
    batch_size: int = 256
    learning_rate: float | None = None
    schedule: str = "cosine"
    seed: int = 0
    steps_per_call: int | None = None
    feed: str = "auto"
    scale: str = "device"
    normalization: str = "unit"
    xla: bool = False
    memory_budget: int | None = None
    patience: int | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    audit: bool = False
    recover: int = 0
    tensorboard: bool = False
    log_json: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("strategy", STRATEGIES),
            ("precision", PRECISIONS),
            ("schedule", SCHEDULES),
            ("feed", FEEDS),
            ("scale", SCALES),
            ("normalization", KINDS),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{_flag(name)} {getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name in (
            *("devices", "epochs", "batch_size", "steps_per_call", "memory_budget"),
            *("patience", "checkpoint_every", "keep_checkpoints"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_flag(name)} {value}: it must be at least 1")
            if value is not None and value >= _COUNTS and name != "memory_budget":
                raise InputError(f"{_flag(name)} {value}: it must be below 2**31")
        if not 0 <= self.recover < _COUNTS:
            raise InputError(f"--recover {self.recover}: it must be from 0 to 2**31 - 1")
        rate = self.learning_rate
        if rate is not None and not 0 < rate < math.inf:
            raise InputError(f"--learning-rate {rate}: it must be a number above 0")
        if not 0 <= self.seed < _SEEDS:
            raise InputError(f"--seed {self.seed}: it must be from 0 to 2**63 - 1")
        if self.feed == "device" and self.scale == "host":
            raise InputError("--feed device scales in the step; leave out --scale host")

    @property
    def peak_learning_rate(self) -> float:
        """The rate asked for, or the article's 0.001 at batch 32, scaled by the square root of the batch size.

        The square root is the rule for Adam: Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient
        Algorithms", NeurIPS 2022.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-3 * math.sqrt(self.batch_size / 32)


def parse_bytes(text: str) -> int:
    """A size in bytes from "4GiB", "500M", "1e9" or a plain number; K, M, G and T count in steps of 1,024.

    Raises:
        ValueError: the text is not a size above 0.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0.0
    if not 1 <= size < math.inf:
        raise ValueError(f"{text!r} is not a size such as 4GiB or 500MiB")
    return int(size)


def size_argument(text: str) -> int:
    """`parse_bytes` as the type of a command line's argument."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
