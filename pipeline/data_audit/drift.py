"""How much the classes and the intensity of two splits differ, each as one number and in plain words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SAMPLED = 4_000  # rows per split whose intensity is measured: enough for two hundredths of a standard deviation

_SAME_SHARES = 0.01  # of the rows; what chance alone would give is allowed too
_CHANCE = 2.0  # times the mean distance that chance gives
_SAME_INTENSITY, _OTHER_INTENSITY = 0.1, 0.3  # standard deviations
_AS_BY_CHANCE = ", which may be chance with so few rows"
_CHANCE_ERRORS = 3.0  # standard errors that chance is allowed between small splits


class ClassDrift(NamedTuple):
    """`distance`: the share of rows that would have to change class for equal shares (total variation, 0 to 1).

    `by_chance` is its mean if both splits were drawn from one source; `worst` is the class that differs most.
    """

    distance: float
    by_chance: float
    worst: int
    shares: tuple[float, float]

    @property
    def differs(self) -> bool:
        return self.distance > max(_SAME_SHARES, _CHANCE * self.by_chance)

    def describe(self, name: str, base: str, class_names: Sequence[str]) -> str:
        """One line for people."""
        if not self.differs:
            chance = _AS_BY_CHANCE if self.distance > _SAME_SHARES else ""
            return f"{name} has the shares of {base} ({self.distance:.1%} apart{chance})"
        own, other = self.shares
        return (
            f"{name} has other shares than {base}, {self.distance:.1%} apart (most in class {class_names[self.worst]}: "
            f"{own:.1%}, in {base} {other:.1%})"
        )


class IntensityDrift(NamedTuple):
    """`effect`: the larger distance of the mean brightness and of the mean contrast of images, in standard deviations.

    It is Cohen's d (J. Cohen, Statistical Power Analysis, 1988). `means` and `contrasts`, the mean standard deviation
    within an image, are those of the split and of the base, in pixel units. `by_chance` is the standard error of d.
    """

    effect: float
    by_chance: float
    means: tuple[float, float]
    contrasts: tuple[float, float]

    @property
    def differs(self) -> bool:
        return self.effect > max(_SAME_INTENSITY, _CHANCE_ERRORS * self.by_chance)

    def describe(self, name: str, base: str) -> str:
        """One line for people."""
        words = "is like" if not self.differs else "differs from"
        if self.differs and self.effect <= _OTHER_INTENSITY:
            words = "differs a little from"
        chance = _AS_BY_CHANCE if not self.differs and self.effect > _SAME_INTENSITY else ""
        (own, other), (contrast, other_contrast) = self.means, self.contrasts
        return (
            f"{name} {words} {base}, {self.effect:.2f} standard deviations apart{chance} (mean {own:.1f}, in {base} "
            f"{other:.1f}; contrast {contrast:.1f}, in {base} {other_contrast:.1f})"
        )


def class_drift(counts: np.ndarray, base: np.ndarray) -> ClassDrift:
    """Of the examples int [classes] of two splits, each with at least one."""
    own, other = counts / counts.sum(), base / base.sum()
    pooled = (counts + base) / (counts.sum() + base.sum())
    # The mean of |x| is sqrt(2 / pi) standard deviations for a normal x.
    variance = pooled * (1 - pooled) * (1 / counts.sum() + 1 / base.sum())
    by_chance = float(np.sqrt(2 / math.pi * variance).sum() / 2)
    worst = int(np.abs(own - other).argmax())
    distance = float(np.abs(own - other).sum() / 2)
    return ClassDrift(distance, by_chance, worst, (float(own[worst]), float(other[worst])))


def intensity_drift(own: np.ndarray, base: np.ndarray) -> IntensityDrift:
    """Of images of two splits, float [n, 2] and [m, 2]: mean and standard deviation of each image's bytes."""
    means, others = own.mean(axis=0, dtype=float), base.mean(axis=0, dtype=float)
    pooled = np.sqrt((own.var(axis=0, dtype=float) + base.var(axis=0, dtype=float)) / 2)
    # Images that are all alike have no deviation to measure in; a grey level takes its place.
    effect = float((np.abs(means - others) / np.maximum(pooled, 1.0)).max())
    by_chance = math.sqrt(1 / len(own) + 1 / len(base))
    return IntensityDrift(effect, by_chance, (means[0], others[0]), (means[1], others[1]))


class Content(NamedTuple):
    """What the drift of rows is measured by: int64 [classes] rows of each, None without labels; float32 [n, 2]."""

    counts: np.ndarray | None
    intensity: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray | None, num_classes: int) -> "Content":
        """Of images uint8 [n, pixels], of which a sample is measured, and labels int [n] of classes."""
        counts = None if labels is None else np.bincount(labels, minlength=num_classes)
        return cls(counts, measure_intensity(images[:: -(-len(images) // SAMPLED)]))


def describe_drift(contents: Mapping[str, Content], base: str, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How each split differs from `base`, for JSON: {split: {"classes": ..., "intensity": ...}}, each with a `text`."""
    found: dict[str, dict[str, Any]] = {}
    own_counts, own_intensity = contents[base]
    for name, (counts, intensity) in contents.items():
        if name == base:
            continue
        found[name] = {}
        if counts is not None and own_counts is not None:
            by_class = class_drift(counts, own_counts)
            found[name]["classes"] = {**by_class._asdict(), "text": by_class.describe(name, base, class_names)}
        by_intensity = intensity_drift(intensity, own_intensity)
        found[name]["intensity"] = {**by_intensity._asdict(), "text": by_intensity.describe(name, base)}
    return found


def measure_intensity(images: np.ndarray) -> np.ndarray:
    """float32 [n, 2]: mean and standard deviation of each image uint8 [n, pixels]."""
    values = images.astype(np.float32)
    mean = values.sum(axis=1) / values.shape[1]
    # By the mean square: NumPy's std takes ten times as long, more than all the rest of the pass.
    squares = np.einsum("ij,ij->i", values, values) / values.shape[1]
    return np.stack([mean, np.sqrt(np.maximum(squares - mean * mean, 0))], axis=1)
