"""The settings of a training run, validated before anything heavy is imported."""

import argparse
import ast
import dataclasses
import math
import pathlib
import re
from typing import Any, NamedTuple

from pipeline.cli import setting
from pipeline.errors import InputError, shorten
from pipeline.feed.holdout import Holdout
from pipeline.feed.normalize import KINDS
from pipeline.feed.plan import FEEDS
from pipeline.format.manifest import Manifest
from pipeline.remote import is_remote
from pipeline.train.recipe import Recipe

STRATEGIES = ("auto", "one", "mirrored", "multiworker")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
SCALES = ("device", "host")
TRACKERS = ("mlflow", "wandb")

_INT32 = 2**31  # steps and rows of a batch are int32 in places


def parse_bytes(text: str) -> int:
    """A size in bytes from "4GiB", "500M", "1e9" or a plain number; K, M, G and T count in steps of 1,024.

    Raises:
        ArgumentTypeError: the text is not a size above 0.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0.0
    if not 1 <= size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4GiB or 500MiB")
    return int(size)


class CallbackName(NamedTuple):
    """A callback as `--callback` names it: module, class or function in it, and what it is called with."""

    module: str
    name: str
    settings: dict[str, Any]


def parse_callback(text: str) -> CallbackName:
    """The callback that a text such as "keras.callbacks:ReduceLROnPlateau,factor=0.5,patience=3" names.

    Raises:
        InputError: it is not of that form.
    """
    place, *pairs = map(str.strip, text.split(","))
    module, _, name = place.partition(":")
    split = [pair.partition("=") for pair in pairs]
    if not (module and name.isidentifier() and all(key.isidentifier() and value for key, _, value in split)):
        raise InputError(
            f"--callback {shorten(text)}: give package.module:Class, with settings as in ...:Class,patience=3"
        )
    return CallbackName(module, name, {key: _literal(value) for key, _, value in split})


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _count(default: int | None, text: str, group: str, minimum: int = 1) -> Any:
    return setting(default, text, group=group, minimum=minimum, below=_INT32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Recipe):
    """Settings of a run: a recipe, and where and how to carry it out.

    None and "auto" are decided by `run_plan.make_run_plan`.

    Raises:
        InputError: a value is out of its bounds, or two settings exclude each other.
    """

    data: pathlib.Path = setting(help="data set directory (default: sample data, with --batch-size 64 --epochs 6)")
    run_dir: pathlib.Path = setting(help="where results go (default: runs/NAME_OF_THE_DATA)")
    fresh: bool = setting(False, "start from scratch; an earlier run in the run directory is renamed, not deleted")

    strategy: str = setting("auto", "auto: by devices and TF_CONFIG", choices=STRATEGIES, group="devices")
    devices: int | None = _count(None, "GPUs to use, or logical CPUs if there is no GPU", "devices")
    precision: str = setting("auto", "auto: what the device computes fastest", choices=PRECISIONS, group="devices")
    xla: bool = setting(False, "compile the step; measure first: tools/benchmark.py step --xla", group="devices")
    steps_per_call: int | None = _count(
        None, "maximum steps per host call (default: 16, on CPUs fewer for large batches)", "devices"
    )

    holdout: str | None = setting(
        None,
        "rows for validation: split (the split val), none, random:0.1, first:N, last:N, or fold:K/N of train "
        "(default: split if the data have it, else none)",
        metavar="ROWS",
        group="training",
    )
    group_size: int | None = _count(
        None, "N consecutive rows belong together, as a writer's; random draws whole groups", "training", minimum=2
    )
    final: bool = setting(False, "train on all rows, those of the split val too, without validation", group="training")
    folds: int | None = _count(
        None, "N runs, each holding out another N-th of train: RUN_DIR/fold-0, ...", "training", 2
    )
    seeds: int | None = _count(None, "N runs, with N seeds from --seed on: RUN_DIR/seed-0, ...", "training", 2)
    seed: int = setting(0, "of weights, order, dropout and augmentation", group="training", minimum=0, below=2**63)
    patience: int | None = _count(None, "stop after N epochs without a better validation accuracy", "training")
    weights_from: pathlib.Path | None = setting(
        None, "start from the weights of this run, in a new one", metavar="RUN_DIR", group="training"
    )
    checkpoint_every: int | None = _count(None, "also within an epoch, every N steps", "training")
    keep_checkpoints: int = _count(2, "newest to keep, besides the best", "training")
    recover: int = _count(
        0, "if the loss becomes NaN, go back at half the rate, at most N times", "training", minimum=0
    )
    audit: bool = setting(False, "prove after each epoch that it saw every example once", group="training")

    cache_dir: pathlib.Path | None = setting(
        None,
        "copy the data set here first, once, and read the copy: for data in an object store or on a slow file system",
        metavar="DIR",
        group="feed",
    )
    feed: str = setting("auto", "where the training split is held; auto: by its size", choices=FEEDS, group="feed")
    memory_budget: int | None = setting(
        None,
        "such as 4GiB (default: half of what is free)",
        metavar="SIZE",
        type=parse_bytes,
        group="feed",
        minimum=1,
    )
    normalization: str = setting("unit", "unit: x / 255; standard: mean 0, deviation 1", choices=KINDS, group="feed")
    scale: str = setting(
        "device", "where bytes become numbers; device: where the steps run", choices=SCALES, group="feed"
    )

    tensorboard: bool = setting(
        False, "scalars, augmented images and weight histograms in RUN_DIR/tensorboard", group="output"
    )
    profile: int | None = _count(None, "profile N steps after the first calls, for TensorBoard", "output")
    log_to: tuple[str, ...] = setting(
        (), "mlflow or wandb; may be repeated", metavar="NAME", group="output", repeat=True
    )
    callback: tuple[str, ...] = setting(
        (),
        "Keras callback, as keras.callbacks:ReduceLROnPlateau,patience=3 or my_module:MyCallback; may be repeated",
        metavar="MODULE:CLASS",
        group="output",
        repeat=True,
    )
    log_json: bool = setting(False, "one JSON object per line, for machines", group="output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feed == "device" and self.scale == "host":
            raise InputError("--scale host cannot be used with --feed device, which scales on the device")
        if self.scale == "host" and self.augment != "none":
            raise InputError("--scale host needs --augment none: augmentation works on bytes, on the device")
        self._check_holdout()
        if self.cache_dir is not None and is_remote(self.cache_dir):
            raise InputError(f"--cache-dir {self.cache_dir}: give a local directory")
        if self.fresh and is_remote(self.run_dir):
            raise InputError(
                f"--fresh cannot rename {self.run_dir}, as object stores have no rename; choose another --run-dir"
            )
        for text in self.callback:
            parse_callback(text)
        for name in self.log_to:
            if name not in TRACKERS:
                raise InputError(f"--log-to {name}: choose one of {', '.join(TRACKERS)}")

    def _check_holdout(self) -> None:
        if self.holdout is not None:
            Holdout(self.holdout, self.group_size)  # raises InputError if it is invalid
            if self.holdout == "final":
                raise InputError("--holdout final: give --final instead")
        if self.seeds and self.seed + self.seeds > 2**63:
            raise InputError(
                f"--seed {self.seed} with --seeds {self.seeds}: the last seed would be above 2**63 - 1; "
                "give a smaller --seed"
            )
        if self.final and self.holdout is not None:
            raise InputError(f"--final trains on all rows; omit --holdout {self.holdout}")
        if self.folds and (self.final or self.seeds or self.holdout):
            other = "--final" if self.final else "--seeds" if self.seeds else "--holdout"
            raise InputError(f"--folds holds out one fold per run; omit {other}")


def check_patience(config: TrainConfig, manifest: Manifest) -> None:
    """InputError if `--patience` has no validation to go by: accuracy on rows that are trained on hardly ever falls."""
    if config.patience is None or config.folds:
        return
    holdout = Holdout.choose(config.holdout, config.final, config.group_size, manifest)
    if not (holdout.from_train or holdout.uses_val):
        reason = "--final leaves no validation" if config.final else f"{manifest.name} is trained on without validation"
        advice = "" if config.final else "hold rows out with --holdout random:0.1, or "
        raise InputError(f"--patience {config.patience}: {reason}; {advice}omit --patience")
