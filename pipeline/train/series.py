"""A series: several complete runs of one configuration, each in a directory of its own, on other folds or seeds."""

import dataclasses
import re

from pipeline.errors import InputError
from pipeline.train.config import TrainConfig

FOLD, SEED = "fold", "seed"


def kind_of(config: TrainConfig) -> str | None:
    """FOLD, SEED, or None for a single run."""
    return FOLD if config.folds else SEED if config.seeds else None


def runs_of(config: TrainConfig) -> list[TrainConfig]:
    """The runs that a configuration asks for, in their order: RUN_DIR/fold-0, ... or RUN_DIR/seed-0, ..., or itself.

    Fold K holds out part K of the split `train`, drawn with the configuration's seed; run `seed-K` adds K to it.
    """
    folds, seed, change = config.folds or 0, config.seed, dataclasses.replace
    held = [
        change(config, run_dir=config.run_dir / f"{FOLD}-{k}", holdout=f"fold:{k}/{folds}:{seed}", folds=None)
        for k in range(folds)
    ]
    seeded = [
        change(config, run_dir=config.run_dir / f"{SEED}-{k}", seed=seed + k, seeds=None)
        for k in range(config.seeds or 0)
    ]
    return held or seeded or [config]


def check_directory(config: TrainConfig) -> None:
    """InputError if the directory of a series holds anything else."""
    kind, path = kind_of(config), config.run_dir
    if not path.exists():
        return
    ours = re.compile(rf"{kind}-[0-9]+(\.old-[0-9]+)?|series\.json|oof\.csv|report\.html|\..*", re.DOTALL)
    if not path.is_dir() or not all(ours.fullmatch(entry.name) for entry in path.iterdir()):
        raise InputError(f"{path}: exists but is not a directory of --{kind}s; choose another --run-dir")
