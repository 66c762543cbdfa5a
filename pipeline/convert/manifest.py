"""The manifest of a data set: what lies in its directory, where it came from, and where each row is.

Row r of a split lies in shard r % num_shards at place r // num_shards. So shards are balanced without knowing the
total in advance, each one is an even sample of the split, and the order of the CSV is arithmetic. The file holds
its own hash, so that a manifest that was changed is seen.
"""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import re
import shlex
from typing import Any

import numpy as np

from pipeline.convert.columns import MAX_NAME
from pipeline.convert.json_fields import as_count, as_list, as_pixels, as_text, check_keys
from pipeline.convert.schema import RecordLayout
from pipeline.convert.shard_pages import page_rows, parse_page_crcs
from pipeline.errors import InputError, shown

FILE_NAME = "manifest.json"
VERSION = 2
SPLIT_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
MAX_IMAGE_BYTES = 16 << 20  # 4096 x 4096; a reader makes a template record of that size
MAX_CLASSES = 1_000_000  # far more different labels than this would be ids, and would fill the memory

_OWN_HASH = "own_sha256"
_MAX_FILE_BYTES = 64 << 20  # 2 TB of shards need 64 MB of page checksums; parsed, it is some ten times that
_DATASET_NAME = re.compile("[a-z][a-z0-9_]*")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file; `name` is relative to the data set's directory.

    `page_crc32c` has eight hexadecimal digits for each page of the file (`pipeline.convert.shard_pages`).
    """

    name: str
    num_examples: int
    num_bytes: int
    page_crc32c: str
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
    """A CSV that was read: all that is needed to read it in the same way again.

    A column is a name or, without a header, a 0-based index; None says that there is none. Without an id column the
    ids are the numbers of the rows in their split.
    """

    split: str
    name: str
    num_bytes: int
    sha256: str
    num_rows: int
    has_header: bool
    label_column: str | None
    id_column: str | None


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

    @functools.cached_property
    def layout(self) -> RecordLayout:
        height, width, channels = self.image_shape
        return RecordLayout(height * width * channels)

    def split(self, name: str) -> Split:
        """The split of that name, or InputError naming those there are."""
        if name not in self.splits:
            raise InputError(f"no split {name!r} in {self.name}; it has {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def page_crcs(self, shard: Shard) -> np.ndarray:
        """uint32 [pages]: the CRC-32C of each page of a shard."""
        return parse_page_crcs(shard.page_crc32c, -(-shard.num_examples // page_rows(self.stride)))

    def sources_of(self, split: str) -> tuple[Source, ...]:
        """The CSVs whose rows are in a split, in their order."""
        drawn = self.validation.fraction > 0 and split == "val"
        return tuple(source for source in self.sources if source.split == (self.validation.source if drawn else split))

    def repair_command(self, directory: Any, split: str) -> str:
        """What to type to mend a split; the CSVs are named as they were called when they were read."""
        files = [(each.split, each.name if each.name.isprintable() else "FILE") for each in self.sources_of(split)]
        given = [f"--from {shlex.quote(f'{name}={file}')}" for name, file in files]
        return " ".join(["python tools/inspect_tfrecord.py repair", shlex.quote(str(directory)), *given])

    def to_json(self) -> str:
        """The text of the file."""
        fields = dataclasses.asdict(self)
        return _dump({**fields, _OWN_HASH: self.own_sha256})

    @functools.cached_property
    def own_sha256(self) -> str:
        """Hash of all that the manifest says; the file repeats it."""
        return hashlib.sha256(_dump(dataclasses.asdict(self)).encode()).hexdigest()

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the manifest as written; it pins every byte of the data set."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def load_manifest(directory: str | pathlib.Path) -> Manifest:
    """Read DIRECTORY/manifest.json.

    Raises:
        InputError: the directory or the manifest is missing, unreadable, of another version, not of this form, or
            changed since it was written.
    """
    manifest, stated = read_manifest(directory)
    if stated != manifest.own_sha256:
        raise InputError(
            f"{pathlib.Path(directory) / FILE_NAME}: changed since it was written, its own SHA-256 does not hold; see "
            f"what differs with: python tools/inspect_tfrecord.py verify {shlex.quote(str(directory))}"
        )
    return manifest


def read_manifest(directory: str | pathlib.Path) -> tuple[Manifest, str]:
    """The manifest, and the hash that it states of itself; only who looks for damage wants one that does not hold.

    Raises:
        InputError: the directory or the manifest is missing, unreadable, of another version, or not of this form.
    """
    directory = pathlib.Path(directory)
    path = directory / FILE_NAME
    if not path.is_file():
        raise InputError(f"{directory}: no {FILE_NAME} here, so no data set; make one with tools/csv_to_tfrecord.py")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"{path}: over {_MAX_FILE_BYTES >> 20} MiB, so no manifest of ours; convert again")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        manifest = _manifest(raw)
        as_text(raw[_OWN_HASH], _OWN_HASH, _SHA256)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest of ours ({error}); convert again") from error
    return manifest, raw[_OWN_HASH]


def _manifest(raw: Any) -> Manifest:
    if isinstance(raw, dict) and raw.get("version") != VERSION:
        raise ValueError(f"version {shown(raw.get('version'))}, expected {VERSION}")
    check_keys(raw, "the manifest", Manifest, _OWN_HASH)
    shape = tuple(as_count(length, "image_shape") for length in as_list(raw["image_shape"], "image_shape"))
    if len(shape) != 3 or not 0 < math.prod(shape) <= MAX_IMAGE_BYTES:
        raise ValueError(f"image_shape {shown(raw['image_shape'])}, expected height, width, channels of a usual image")
    check_keys(raw["splits"], "splits")
    # Training first, then validation: the order in which people read them.
    names = sorted(raw["splits"], key=lambda name: (name != "train", name != "val", name))
    manifest = Manifest(
        name=as_text(raw["name"], "the name", _DATASET_NAME),
        image_shape=shape,
        class_names=tuple(as_text(name, "a class name") for name in as_list(raw["class_names"], "class_names")),
        splits={name: _split(name, raw["splits"][name]) for name in names},
        sources=tuple(map(_source, as_list(raw["sources"], "sources"))),
        validation=_validation(raw["validation"]),
        pixel_mean=as_pixels(raw["pixel_mean"], "pixel_mean", shape[2]),
        pixel_std=as_pixels(raw["pixel_std"], "pixel_std", shape[2]),
        stride=as_count(raw["stride"], "stride"),
    )
    if manifest.stride != manifest.layout.stride:
        raise ValueError(f"stride {shown(manifest.stride)}, expected {manifest.layout.stride}")
    if len(set(manifest.class_names)) != manifest.num_classes or manifest.num_classes > MAX_CLASSES:
        raise ValueError(f"{manifest.num_classes} class names, expected different ones, up to {MAX_CLASSES}")
    seen: set[str] = set()
    for split in manifest.splits.values():
        _check_split(split, manifest, seen)
    return manifest


def _split(name: str, raw: Any) -> Split:
    as_text(name, "a split's name", SPLIT_NAME)
    where = f"split {name!r}"
    check_keys(raw, where, Split)
    shards = tuple(_shard(shard, where) for shard in as_list(raw["shards"], where))
    counts = tuple(as_count(count, f"{where}, class_counts") for count in as_list(raw["class_counts"], where))
    split = Split(name, as_count(raw["num_examples"], where), counts, shards)
    if raw["name"] != name:
        raise ValueError(f"{where} calls itself {shown(raw['name'])}")
    return split


def _check_split(split: Split, manifest: Manifest, seen: set[str]) -> None:
    where = f"split {split.name!r}"
    if not split.shards or sum(shard.num_examples for shard in split.shards) != split.num_examples:
        raise ValueError(f"the shards of {where} do not add up to its examples")
    if split.labelled and sum(split.class_counts) != split.num_examples:
        raise ValueError(f"the class counts of {where} do not add up to its examples")
    if split.labelled and len(split.class_counts) != manifest.num_classes:
        raise ValueError(f"{where} counts {len(split.class_counts)} classes, expected {manifest.num_classes}")
    if len(split.shards) > split.num_examples:
        raise ValueError(f"{where} has more shards than examples")
    for place, shard in enumerate(split.shards):
        if shard.name in seen:
            raise ValueError(f"shard {shard.name!r} is named twice")
        seen.add(shard.name)
        dealt = len(range(place, split.num_examples, len(split.shards)))
        if shard.num_examples != dealt:
            raise ValueError(f"shard {shard.name!r} has {shown(shard.num_examples)} examples, expected {shown(dealt)}")
        if shard.num_bytes != shard.num_examples * manifest.stride:
            raise ValueError(f"shard {shard.name!r}: num_bytes is not that of its examples")
        manifest.page_crcs(shard)


def _shard(raw: Any, where: str) -> Shard:
    check_keys(raw, f"a shard of {where}", Shard)
    shard = Shard(**raw)
    as_text(shard.name, "a shard's name", _SHARD_NAME)
    if ".tfrecord" not in shard.name:  # so that it is neither the manifest nor another file of the directory
        raise ValueError(f"a shard's name {shown(shard.name)} has no .tfrecord in it")
    as_count(shard.num_examples, f"shard {shard.name!r}"), as_count(shard.num_bytes, f"shard {shard.name!r}")
    if not isinstance(shard.page_crc32c, str):
        raise ValueError(f"shard {shard.name!r}: page_crc32c is not text")
    as_text(shard.sha256, f"shard {shard.name!r}: SHA-256", _SHA256)
    return shard


def _source(raw: Any) -> Source:
    check_keys(raw, "a source", Source)
    source = Source(**raw)
    as_text(source.split, "a source's split", SPLIT_NAME), as_text(source.sha256, "a source's SHA-256", _SHA256)
    as_count(source.num_rows, "a source"), as_count(source.num_bytes, "a source")
    if not isinstance(source.has_header, bool):
        raise ValueError(f"a source's has_header {shown(source.has_header)} is not true or false")
    for text in (source.name, source.label_column or "", source.id_column or ""):
        if not isinstance(text, str) or len(text) > MAX_NAME:  # a file's name need not be printable
            raise ValueError(f"a source's name or column {shown(text)} is not one of ours")
    return source


def _validation(raw: Any) -> Validation:
    check_keys(raw, "validation", Validation)
    rule = Validation(**raw)
    if isinstance(rule.fraction, bool) or not isinstance(rule.fraction, (int, float)) or not 0 <= rule.fraction < 1:
        raise ValueError(f"validation fraction {shown(rule.fraction)} is not from 0 to 1")
    as_text(rule.source, "validation source", SPLIT_NAME), as_count(rule.seed, "validation seed")
    if rule.group_size is not None and not as_count(rule.group_size, "validation group_size"):
        raise ValueError("validation group_size 0 must be 1 or more")
    return rule
