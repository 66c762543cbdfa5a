"""How strongly images are augmented: named strengths, presets, and the text that names them. No TensorFlow here."""

import dataclasses
import math
from typing import Any

from pipeline.errors import InputError, list_few, shorten, split_settings


def _strength(unit: str, high: float, low: float = 0.0) -> Any:
    """A field: 0 by default, which is off; its unit and its valid range are what error messages name."""
    return dataclasses.field(default=0.0, metadata={"unit": unit, "range": (low, high)})


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Strengths, each off at 0. A "share of the side" is of the image's shorter side, so that any image size works.

    Raises:
        InputError: a strength is not a number within its range, or two contradict each other.
    """

    # One resampling; every random number is uniform and drawn per image.
    rotation: float = _strength("degrees, either way", 180)
    shear: float = _strength("degrees of slant, either way", 45)
    min_stretch: float = _strength("logarithm of the factor of width over height", 1, low=-1)
    max_stretch: float = _strength("logarithm of the factor of width over height", 1, low=-1)
    min_size: float = _strength("factor of the ink box's longer side after any stretch; 0: size follows stretch", 4)
    max_size: float = _strength("factor of the ink box's longer side after any stretch; 0: size follows stretch", 4)
    zoom: float = _strength("logarithm of the scale, either way", 1)
    shift: float = _strength("share of the side, either way", 0.5)
    far_shift: float = _strength("share of the side, either way, instead of shift for some images", 0.5)
    far: float = _strength("share of images with far_shift", 1)
    flip: float = _strength("share of images mirrored left to right", 1)
    # Strokes. "Around" is 3x3 pixels in images of 28, more in larger ones; smaller ones get a smaller share and gain.
    thicken: float = _strength("share of the maximum around a pixel in the blend", 1)
    thin: float = _strength("share of the minimum around a pixel in the blend", 1)
    sharpen: float = _strength("greatest gain of contrast, which restores edges that resampling greyed", 10)
    # What scanners and paper add or take.
    cut: float = _strength("share of images that lose a strip of the glyph", 1)
    cut_depth: float = _strength("greatest depth of that strip, share of the side", 0.5)
    line: float = _strength("share of images with a straight line near an edge", 1)
    line_width: float = _strength("greatest width of a line, share of the side; at least a pixel", 0.25)
    speck: float = _strength("share of images with specks of one or two pixels", 1)
    # Light and colour.
    brightness: float = _strength("added, either way; white is 1", 1)
    contrast: float = _strength("factor around the image's mean, 1 plus or minus this", 1)
    saturation: float = _strength("factor around each pixel's grey, 1 plus or minus this", 1)
    tint: float = _strength("factor per channel, 1 plus or minus this", 1)
    # Shares of images that are augmented less.
    mild: float = _strength("share of images with mild stretch, size and thickness", 1)
    untouched: float = _strength("share of images that stay as they are", 1)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        for low, high in (("min_stretch", "max_stretch"), ("min_size", "max_size")):
            if getattr(self, low) > getattr(self, high):
                raise InputError(
                    f"augmentation {low}={getattr(self, low):g} is above {high}={getattr(self, high):g}; give {low} "
                    f"up to {high}"
                )
        if self.max_size and not self.min_size:
            raise InputError(f"augmentation min_size=0 with max_size={self.max_size:g}; give both, or 0 for both")
        for share, amount in (("far", "far_shift"), ("cut", "cut_depth")):
            if getattr(self, share) and not getattr(self, amount):
                raise InputError(f"augmentation {share}={getattr(self, share):g} needs {amount} above 0")

    def __bool__(self) -> bool:
        """Whether any strength changes an image."""
        changing = (name for name in _FIELDS if name not in _MODIFIERS)
        return self.untouched < 1 and any(getattr(self, name) for name in changing)

    def text(self) -> str:
        """The shortest text that `parse_augmentation` reads as these strengths: a preset and what differs from it."""
        texts = []
        for name, preset in PRESETS.items():
            changed = [
                f"{field.name}={getattr(self, field.name)!r}"
                for field in dataclasses.fields(self)
                if getattr(self, field.name) != getattr(preset, field.name)
            ]
            texts.append(",".join([name, *changed]))
        return min(texts, key=lambda text: (text.count(","), len(text)))


def parse_augmentation(text: str) -> Augmentation:
    """The strengths that a text names: a preset, then changes to it: "none", "digits", "digits,rotation=15,line=0".

    Raises:
        InputError: an unknown preset or strength, a strength given twice, or a value outside its range.
    """
    preset, changes = split_settings(text)
    if preset not in PRESETS:
        raise InputError(f"augmentation {shorten(preset)} is not a preset; give one of {', '.join(PRESETS)}")
    values: dict[str, float] = {}
    for name, value in changes.items():
        if name not in _FIELDS:
            change = "=".join(filter(None, (name, value)))
            raise InputError(
                f"augmentation {shorten(change)} is not strength=number; the strengths are {list_few([*_FIELDS], 99)}"
            )
        values[name] = _checked(_FIELDS[name], value)
    return dataclasses.replace(PRESETS[preset], **values)


def _checked(field: dataclasses.Field, value: object) -> float:
    """The value as a float within the field's range."""
    low, high = field.metadata["range"]
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise InputError(
            f"augmentation {field.name}={shorten(value)}; give a number from {low:g} to {high:g} "
            f"({field.metadata['unit']})"
        )
    return number


_FIELDS = {field.name: field for field in dataclasses.fields(Augmentation)}
# What modifies other strengths, and alone changes nothing.
_MODIFIERS = {"far_shift", "cut_depth", "line_width", "mild", "untouched"}
_NONE = Augmentation()

PRESETS = {
    "none": _NONE,
    # Handwriting of unseen writers and of other scanners, chosen on 28x28 pixels: shifts of 3 and 5, a cut of 5, lines
    # of 2. Not flipped, because mirrored characters are other characters; stretched in width more than in height.
    "digits": Augmentation(
        rotation=12,
        shear=12,
        min_stretch=-0.15,
        max_stretch=0.6,
        min_size=0.8,
        max_size=1.1,
        shift=0.107,
        far_shift=0.18,
        far=0.2,
        thicken=0.55,
        thin=0.25,
        sharpen=2.5,
        cut=0.1,
        cut_depth=0.18,
        line=0.2,
        line_width=0.071,
        speck=0.1,
        mild=0.4,
        untouched=0.05,
    ),
    # Objects, which stay what they are when mirrored, cropped, or seen in other light.
    "photos": Augmentation(
        rotation=5,
        zoom=0.15,
        shift=0.1,
        flip=0.5,
        brightness=0.1,
        contrast=0.2,
        saturation=0.2,
        tint=0.05,
    ),
}
