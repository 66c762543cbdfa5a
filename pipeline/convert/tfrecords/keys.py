"""Which features of foreign tf.train.Examples are image, label and id: by their usual names, or as given."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pipeline.errors import InputError, list_few, size_text

NONE = "none"  # as a key: there is no such feature
BYTES, INTEGERS, FLOATS = "bytes", "int64", "float32"
IMAGE_KEYS = ("image", "image/encoded", "image_raw", "image/image_raw", "img", "image_bytes", "encoded", "x", "pixels")
LABEL_KEYS = ("label", "image/class/label", "class", "labels", "image/label", "class_id", "target", "y", "category")
ID_KEYS = ("id", "image_id", "image/id", "image_name")
_SHAPE_KEYS = (
    ("height", "image/height", "rows", "image_height", "h"),
    ("width", "image/width", "cols", "columns", "image_width", "w"),
    ("depth", "channels", "image/channels", "image_channels", "image/depth", "c"),
)


class Feature(NamedTuple):
    """A feature of one example: its type, how many values, and the bytes of the first if it is bytes."""

    kind: str
    number: int
    num_bytes: int = 0
    value: int | None = None  # of a single integer

    @property
    def text(self) -> str:
        """Such as "bytes of 1.5 KiB", "int64", "10 float32"."""
        if self.kind == BYTES and self.number == 1:
            return f"bytes of {size_text(self.num_bytes)}"
        return self.kind if self.number == 1 else f"{self.number} {self.kind}"


Features = Mapping[str, Feature]


@dataclasses.dataclass(frozen=True)
class Keys:
    """Keys of features; None: to be found, or absent. `image_type`: of raw images, None for uint8."""

    image: str | None = None
    label: str | None = None
    id: str | None = None
    image_type: str | None = None


def find_keys(where: str, features: Features, given: Keys) -> Keys:
    """The keys of image, label and id in an example with these features.

    Raises:
        InputError: there is no image, or a given key is missing; the message lists the keys.
    """
    keys = choose_keys(where, features, given, list_features(features))
    _check_kinds(where, features, keys)
    return keys


def stated_shape(features: Features) -> tuple[int, int, int] | None:
    """(height, width, channels) as features of an example state them, such as image/height; None if they do not."""
    lengths = []
    for names in _SHAPE_KEYS:
        values = [features[name].value for name in names if name in features and features[name].value is not None]
        lengths.append(values[0] if values else None)
    height, width, channels = lengths
    return None if height is None or width is None else (height, width, 1 if channels is None else channels)


def list_features(features: Features) -> str:
    """All keys with their kinds, for messages."""
    return list_few([f"{key} ({feature.text})" for key, feature in sorted(features.items())], 20) or "it has none"


def choose_keys(where: str, names: Collection[str], given: Keys, listed: str) -> Keys:
    """The keys of image, label and id among the names of features, as given or usual; `listed` is how errors list them.

    Raises:
        InputError: a given key is missing, or no feature is known to be an image.
    """
    found = []
    for role, own, known in (
        ("image", given.image, IMAGE_KEYS),
        ("label", given.label, LABEL_KEYS),
        ("id", given.id, ID_KEYS),
    ):
        if own is not None and own not in names and (own.lower() != NONE or role == "image"):
            raise InputError(f"{where}: no feature {own!r} for --{role}-key; it has {listed}")
        found.append(next((key for key in (known if own is None else [own]) if key in names), None))
    if found[0] is None:
        raise InputError(f"{where}: no feature is known to be an image; choose with --image-key: {listed}")
    return Keys(*found)


def _check_kinds(where: str, features: Features, keys: Keys) -> None:
    image = features[str(keys.image)]
    if image.kind == BYTES and image.number != 1:
        raise InputError(f"{where}: {keys.image!r} has {image.number} images; write an example per image")
    for role, key in (("label", keys.label), ("id", keys.id)):
        if key is not None and (features[key].number != 1 or features[key].kind == FLOATS):
            if role == "label" and features[key].kind != BYTES and features[key].number != 0:
                continue  # one-hot, or a whole number as a float
            raise InputError(
                f"{where}: the {role} {key!r} is {features[key].text}; choose another with --{role}-key, or none: "
                f"{list_features(features)}"
            )
