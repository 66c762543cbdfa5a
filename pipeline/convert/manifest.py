"""The manifest of a data set: what lies in its directory, where it came from, and where each row is.

Row r of a split lies in shard r % num_shards at place r // num_shards. So shards are balanced without knowing the
total in advance, each one is an even sample of the split, and the order of the CSV is arithmetic.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from pipeline.convert.schema import RecordLayout
from pipeline.errors import InputError

FILE_NAME = "manifest.json"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file; `name` is relative to the data set's directory."""

    name: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A named part of the data. `class_counts[k]` counts class k; it is empty where the split has no labels."""

    name: str
    num_examples: int
    class_counts: tuple[int, ...]
    shards: tuple[Shard, ...]

    @property
    def labelled(self) -> bool:
        return bool(self.class_counts)


@dataclasses.dataclass(frozen=True)
class Source:
    """A CSV that was read; `rows` is its number of examples."""

    split: str
    name: str
    num_bytes: int
    sha256: str
    num_rows: int


@dataclasses.dataclass(frozen=True)
class Validation:
    """How rows were taken out of `source` into the split `val`; `fraction` 0 means that none were."""

    fraction: float = 0.0
    group_size: int | None = None
    source: str = "train"
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything a reader needs. `class_names[k]` is the label that the CSV had for class k.

    `pixel_mean` and `pixel_std` have one value a channel, over the split `train`, in pixel units (0..255).
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    sources: tuple[Source, ...]
    validation: Validation
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    stride: int
    version: int = VERSION

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def layout(self) -> RecordLayout:
        height, width, channels = self.image_shape
        return RecordLayout(height * width * channels)

    def split(self, name: str) -> Split:
        """The split of that name, or InputError naming those there are."""
        if name not in self.splits:
            raise InputError(f"no split {name!r} in {self.name}; it has {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Hash of the manifest as written; it pins every byte of the data set."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def load_manifest(directory: str | pathlib.Path) -> Manifest:
    """Read DIRECTORY/manifest.json.

    Raises:
        InputError: the directory or the manifest is missing, unreadable, of another version, or not of this form.
    """
    directory = pathlib.Path(directory)
    path = directory / FILE_NAME
    if not path.is_file():
        raise InputError(f"{directory}: no {FILE_NAME} here, so no data set; make one with tools/csv_to_tfrecord.py")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        manifest = _from_json(raw)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest of ours ({type(error).__name__}: {error}); convert again") from error
    return manifest


def _from_json(raw: dict[str, Any]) -> Manifest:
    if raw["version"] != VERSION:
        raise ValueError(f"version {raw['version']!r}, expected {VERSION}")
    splits = {}
    # Training first, then validation: the order in which people read them.
    for key, value in sorted(raw["splits"].items(), key=lambda item: (item[0] != "train", item[0] != "val", item[0])):
        shards = tuple(_shard(shard) for shard in value["shards"])
        splits[key] = Split(key, _count(value["num_examples"]), tuple(map(_count, value["class_counts"])), shards)
        if not shards or sum(shard.num_examples for shard in shards) != splits[key].num_examples:
            raise ValueError(f"the shards of split {key!r} do not add up to its examples")
    shape = tuple(map(_count, raw["image_shape"]))
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"image_shape {shape}, expected height, width, channels")
    manifest = Manifest(
        name=str(raw["name"]),
        image_shape=shape,
        class_names=tuple(map(str, raw["class_names"])),
        splits=splits,
        sources=tuple(map(_source, raw["sources"])),
        validation=_validation(raw["validation"]),
        pixel_mean=tuple(map(float, raw["pixel_mean"])),
        pixel_std=tuple(map(float, raw["pixel_std"])),
        stride=_count(raw["stride"]),
    )
    for key, split in splits.items():
        if split.labelled and sum(split.class_counts) != split.num_examples:
            raise ValueError(f"the class counts of split {key!r} do not add up to its examples")
        if split.labelled and len(split.class_counts) != manifest.num_classes:
            raise ValueError(f"split {key!r} counts {len(split.class_counts)} classes, expected {manifest.num_classes}")
    if not len(manifest.pixel_mean) == len(manifest.pixel_std) == shape[2]:
        raise ValueError(f"pixel_mean and pixel_std need one value for each of {shape[2]} channels")
    if manifest.stride != manifest.layout.stride:
        raise ValueError(f"stride {manifest.stride}, expected {manifest.layout.stride}")
    return manifest


def _shard(raw: dict[str, Any]) -> Shard:
    shard = Shard(**raw)
    if not shard.name or shard.name != pathlib.PurePath(shard.name).name or shard.name.startswith("."):
        raise ValueError(f"shard name {shard.name!r} is not a plain file name")
    _count(shard.num_examples), _count(shard.num_bytes)
    return shard


def _source(raw: dict[str, Any]) -> Source:
    source = Source(**raw)
    _count(source.num_rows), _count(source.num_bytes)
    return source


def _validation(raw: dict[str, Any]) -> Validation:
    rule = Validation(**raw)
    if not isinstance(rule.fraction, (int, float)) or not 0 <= rule.fraction < 1:
        raise ValueError(f"validation fraction {rule.fraction!r} is not from 0 to 1")
    _count(rule.seed), _count(rule.group_size or 0)
    return rule


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
