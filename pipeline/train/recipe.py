"""What is trained and how: the settings that decide a result, apart from data, devices and files."""

import dataclasses
import math
from typing import Any

from models import NETWORKS, parse_network
from pipeline.augment.strengths import PRESETS, parse_augmentation
from pipeline.cli import check_settings, setting
from pipeline.errors import InputError, shorten
from pipeline.remote import as_path
from pipeline.train.settings_file import read_settings

AUTO = "auto"  # chosen by what the images look like
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle")
CLASS_WEIGHTS = ("none", "balanced")

_INT32 = 2**31  # steps and rows of a batch are int32 in places


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of `--recipe`; the defaults are those of `best`.

    Raises:
        InputError: a value is out of its bounds, or two settings exclude each other.
    """

    model: str = setting(
        "residual",
        f"network: {', '.join(NETWORKS)}, or your package.module:function; residual,width=48 changes a setting",
        group="recipe",
    )
    augment: str = setting(
        AUTO, "none, digits, photos, auto (digits or photos), or digits,rotation=15 to change one", group="recipe"
    )
    epochs: int = setting(30, "passes over the data", group="recipe", minimum=1, below=_INT32)
    batch_size: int = setting(256, "global, over all replicas", group="recipe", minimum=1, below=_INT32)
    optimizer: str = setting("adamw", "sgd: with Nesterov momentum", choices=OPTIMIZERS, group="recipe")
    learning_rate: float | None = setting(
        None,
        "peak (default: adam 0.001 * sqrt(batch size / 32), adamw 0.004 * sqrt(batch size / 256), "
        "sgd 0.1 * batch size / 256)",
        metavar="RATE",
        group="recipe",
    )
    weight_decay: float = setting(0.02, "adamw, sgd: of kernels, times the rate", group="recipe", minimum=0)
    momentum: float = setting(0.9, "sgd; adam, adamw: beta 1", group="recipe", minimum=0, below=1)
    beta_2: float = setting(0.99, "adam, adamw", group="recipe", minimum=0, below=1)
    schedule: str = setting("one-cycle", "after the warm-up; one-cycle: linear to 0", choices=SCHEDULES, group="recipe")
    warmup: float = setting(0.15, "share of all steps in which the rate rises", group="recipe", minimum=0, below=1)
    label_smoothing: float = setting(
        0.0, "share of a label spread over all classes", group="recipe", minimum=0, below=1
    )
    class_weights: str = setting("none", "balanced: rare classes count more", choices=CLASS_WEIGHTS, group="recipe")
    clip_norm: float | None = setting(None, "limit of the gradients' global norm", metavar="NORM", group="recipe")
    ema: float = setting(
        0.998, "momentum of the weights' moving average, which is evaluated; 0: off", group="recipe", minimum=0, below=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
        try:
            parse_network(self.model)
        except ValueError as error:
            raise InputError(f"--model {self.model}: {error}") from error
        if self.augment.partition(",")[0].strip() not in (AUTO, *PRESETS):
            presets = ", ".join([AUTO, *PRESETS])
            raise InputError(f"--augment {shorten(self.augment)}: give one of {presets}, or digits,rotation=15")
        try:
            parse_augmentation("none" if self.augment == AUTO else self.augment)
        except InputError as error:
            raise InputError(f"--augment {shorten(self.augment)}: {error}") from error
        if not 0 < self.peak_learning_rate < math.inf:
            raise InputError(f"--learning-rate {self.peak_learning_rate}: it must be a number above 0")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise InputError(f"--clip-norm {self.clip_norm}: it must be a number above 0")

    @property
    def peak_learning_rate(self) -> float:
        """The given rate, or the optimizer's, scaled with the batch size.

        Adam: the Keras tutorial's 0.001 at batch 32, by the square root (Malladi et al., "On the SDEs and Scaling Rules
        for Adaptive Gradient Algorithms", NeurIPS 2022). SGD: linear (Goyal et al., arXiv 1706.02677).
        """
        if self.learning_rate is not None:
            return self.learning_rate
        if self.optimizer == "sgd":
            return 0.1 * self.batch_size / 256
        if self.optimizer == "adamw":
            return 4e-3 * math.sqrt(self.batch_size / 256)
        return 1e-3 * math.sqrt(self.batch_size / 32)


_PLAIN = {"augment": "none", "optimizer": "adam", "beta_2": 0.999, "ema": 0.0}
RECIPES: dict[str, dict[str, Any]] = {
    # The network and settings of the Keras tutorial, in its small batches.
    "tutorial": {**_PLAIN, "model": "tutorial", "epochs": 6, "batch_size": 32, "schedule": "constant", "warmup": 0.0},
    # Source of the rate and momenta: github.com/tuomaso/train_mnist_fast.
    "fast": {
        **{**_PLAIN, "model": "fast", "epochs": 1, "batch_size": 256, "learning_rate": 0.01},
        **{"momentum": 0.7, "beta_2": 0.9, "schedule": "one-cycle", "warmup": 0.3},
    },
    "best": {},
}
DEFAULT = "best"


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe: one of RECIPES, or of a TOML or JSON file, such as a run's config.json.

    Raises:
        InputError: there is no such recipe or file, or it is not one.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = as_path(name)
    try:
        content = read_settings(path, Recipe, "a recipe")
        recipe = Recipe(**content)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"--recipe {name}: choose one of {', '.join(RECIPES)}, or name a TOML or JSON file") from error
    return {key: getattr(recipe, key) for key in content}
