"""The manifest of a data set: what its directory holds, where that came from, and which rows each shard has.

Shard k of a split holds consecutive rows of it, in the order of the sources; the rows at which shards start are prefix
sums. Types and bounds are declared with the fields and checked by msgspec, rules between fields by `manifest_rules`.
Before it is written, its text is parsed as a reader would, so that no unreadable manifest is written. The file holds
its own hash, so an edited manifest is detected.
"""

import functools
import hashlib
import math
import pathlib
import re
import shlex
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from pipeline.errors import InputError, shorten
from pipeline.format.manifest_rules import check_fields
from pipeline.format.records import MAX_IMAGE_BYTES, RecordLayout, page_rows
from pipeline.remote import as_path, file_size, is_remote
from pipeline.splits import TRAIN, VAL

FILE_NAME = "manifest.json"
VERSION = 3
SPLIT_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
MAX_CLASSES = 1_000_000  # more distinct labels than this are ids, and would fill the memory
MAX_SHARDS = 99_999  # what five digits in a file name can count
MAX_NAME = 1000  # characters of a column's or a source's name

_MAX_FILE_BYTES = 256 << 20  # page checksums of 8 TB of shards; parsed, it takes some ten times that
_MAX_MESSAGE = 200  # characters; an unknown field's name may be megabytes

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Length = Annotated[int, msgspec.Meta(ge=1, le=MAX_IMAGE_BYTES)]
_Pixel = Annotated[float, msgspec.Meta(ge=0, le=255)]
# \Z rather than $, which also matches before a final newline.
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_SplitName = Annotated[str, msgspec.Meta(pattern=rf"^{SPLIT_NAME.pattern}\Z", max_length=255)]
_DatasetName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*\Z", max_length=255)]
# Without a slash or a leading dot, and neither the manifest nor another file of the directory.
_ShardName = Annotated[str, msgspec.Meta(pattern=r"(?a)^\w[\w.-]*\.tfrecord[\w.-]*\Z", max_length=255)]


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One TFRecord file; `name` is relative to the data set's directory.

    `page_crc32c` has eight hexadecimal digits for each page of the file (`pipeline.format.records.page_rows`).
    """

    name: _ShardName
    num_examples: _Positive
    num_bytes: _Count
    page_crc32c: str
    sha256: _Sha256


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named part of the data. `class_counts[k]` counts class k; it is empty if the split has no labels."""

    name: _SplitName
    num_examples: _Positive
    class_counts: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_CLASSES)]
    shards: Annotated[tuple[Shard, ...], msgspec.Meta(min_length=1)]

    @property
    def labelled(self) -> bool:
        return bool(self.class_counts)

    @property
    def shard_starts(self) -> np.ndarray:
        """int64 [shards + 1]: the row of the split at which each shard starts, and the number of rows."""
        return np.cumsum([0, *(shard.num_examples for shard in self.shards)], dtype=np.int64)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that was converted, with all that is needed to read it in the same way again.

    A column is a name or, without a header, a 0-based index; None means absent. Without an id column the ids are the
    numbers of the rows in their split.
    """

    split: _SplitName
    name: _Name
    num_bytes: _Count
    sha256: _Sha256
    num_rows: _Count
    has_header: bool
    label_column: _Name | None
    id_column: _Name | None


class Validation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How rows were moved from `source` into the split `val`; `fraction` 0 means that none were."""

    fraction: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    group_size: _Positive | None = None
    source: _SplitName = TRAIN
    seed: _Count = 0


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the numbers of the sources became pixels: options of the conversion, for files of the same kind."""

    pixel_range: tuple[float, float] | None = None
    layout: Literal["HWC", "CHW"] | None = None
    transpose: bool = False


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):  # dict: for cached properties
    """Everything a reader needs. `class_names[k]` is the label that the sources had for class k.

    `pixel_mean` and `pixel_std` have one value per channel, over the split `train`, in pixel units (0..255).
    `planned_shards` is the number of shards that each input split was cut into, empty if the data set cannot be rebuilt
    from its sources. `text_ids` has the SHA-256 of the file of ids of each input split whose ids are text. `reading` is
    absent if no option changed the pixels.
    """

    name: _DatasetName
    image_shape: tuple[_Length, _Length, _Length]
    class_names: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CLASSES)]
    splits: Annotated[dict[_SplitName, Split], msgspec.Meta(min_length=1)]
    sources: tuple[Source, ...]
    validation: Validation
    pixel_mean: tuple[_Pixel, ...]
    pixel_std: tuple[_Pixel, ...]
    stride: _Positive
    planned_shards: dict[_SplitName, Annotated[int, msgspec.Meta(ge=1, le=MAX_SHARDS)]] = {}
    text_ids: dict[_SplitName, _Sha256] | msgspec.UnsetType = msgspec.UNSET  # so that others' hashes stay as they were
    reading: Reading | msgspec.UnsetType = msgspec.UNSET
    version: int = VERSION

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def all_shards(self) -> list[Shard]:
        """The shards of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]

    @functools.cached_property
    def layout(self) -> RecordLayout:
        return RecordLayout(math.prod(self.image_shape))

    def split(self, name: str) -> Split:
        """The split of that name, or InputError naming those available."""
        if name not in self.splits:
            raise InputError(f"no split {name!r} in {self.name}; it has {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def page_crcs(self, shard: Shard) -> np.ndarray:
        """uint32 [pages]: the CRC-32C of each page of a shard; ValueError if the text is not that many checksums."""
        num_pages = -(-shard.num_examples // page_rows(self.stride))
        data = bytes.fromhex(shard.page_crc32c)
        if len(data) != 4 * num_pages or data.hex() != shard.page_crc32c:
            raise ValueError(f"{len(data) // 4} page checksums, expected {num_pages}")
        return np.frombuffer(data, ">u4").astype(np.uint32)

    def sources_of(self, split: str) -> tuple[Source, ...]:
        """The sources whose rows are in a split, in their order."""
        drawn = self.validation.fraction > 0 and split == VAL
        return tuple(source for source in self.sources if source.split == (self.validation.source if drawn else split))

    def to_json(self) -> str:
        """The text of the file; InputError (a ValueError) if a reader would refuse it."""
        text = _to_bytes(_ManifestFile(**msgspec.structs.asdict(self), stated_sha256=self.own_sha256))
        _parse(text)  # msgspec checks what it decodes, not what Python constructs
        if len(text) > _MAX_FILE_BYTES:
            raise InputError(f"a manifest of {len(text):,} bytes, over {_MAX_FILE_BYTES >> 20} MiB")
        return text.decode()

    @functools.cached_property
    def own_sha256(self) -> str:
        """Hash of all fields; the file repeats it."""
        return hashlib.sha256(_to_bytes(self)).hexdigest()

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the manifest as written; it identifies every byte of the data set."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


class _ManifestFile(Manifest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    stated_sha256: _Sha256 = msgspec.field(name="own_sha256")


class _Version(msgspec.Struct):
    version: int


def load_manifest(directory: str | pathlib.Path) -> Manifest:
    """Read DIRECTORY/manifest.json.

    Raises:
        InputError: the manifest is missing, unreadable, of another version, invalid, or changed since it was written.
    """
    manifest, stated_hash = read_manifest(directory)
    if stated_hash != manifest.own_sha256:
        raise InputError(
            f"{as_path(directory) / FILE_NAME}: changed since it was written, its own SHA-256 does not match; see "
            f"what differs with: python tools/inspect_tfrecord.py verify {shlex.quote(str(directory))}"
        )
    return manifest


def read_manifest(directory: str | pathlib.Path) -> tuple[Manifest, str]:
    """The manifest, and its stated hash, which the caller compares; raises as `load_manifest` otherwise."""
    directory = as_path(directory)
    path = directory / FILE_NAME
    if file_size(path) is None:
        raise InputError(f"{directory}: no {FILE_NAME}, so not a data set; {_advice(directory)}")
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)  # not by the file's size, which may change in between
    if len(data) > _MAX_FILE_BYTES:
        raise InputError(f"{path}: over {_MAX_FILE_BYTES >> 20} MiB, so not a manifest of ours; convert again")
    try:
        return _parse(data)
    except InputError as error:
        raise InputError(f"{path}: not a manifest of ours ({error}); convert again") from error


def _advice(directory: pathlib.Path) -> str:
    """How to make a data set of ours from what a directory holds."""
    if is_remote(directory):
        return "create one with tools/csv_to_tfrecord.py, which writes this file last"
    # TensorFlow Datasets keeps NAME/VERSION, or NAME/CONFIG/VERSION. Ours have its metadata, too.
    for pattern in ("features.json", "*/features.json", "*/*/features.json"):
        path = next(iter(sorted(directory.glob(pattern))), None) if directory.is_dir() else None
        if path is not None:
            source = shlex.quote(str(path.parent))
            if path.with_name(FILE_NAME).exists():
                return f"did you mean {source}?"
            option = "" if any(path.parent.glob("*.tfrecord*")) else "--tfds "  # which reads its other formats too
            return f"it is TensorFlow Datasets'; run: python tools/import_tfrecord.py {option}{source} --out data/NAME"
    if any(directory.glob("*.tfrec*")):
        return f"it holds TFRecords; run: python tools/import_tfrecord.py {shlex.quote(str(directory))} --out data/NAME"
    return "create one with tools/csv_to_tfrecord.py"


def _parse(data: bytes) -> tuple[Manifest, str]:
    # First: another version has other fields, and its error would name one of them instead of the version.
    version = _decode(data, _Version).version
    if version != VERSION:
        raise InputError(f"version {shorten(version)}, expected {VERSION}")
    fields = msgspec.structs.asdict(_decode(data, _ManifestFile))
    stated_hash = fields.pop("stated_sha256")
    # Training first, then validation: the order in which people read them.
    splits = sorted(fields.pop("splits").items(), key=lambda item: (item[0] != TRAIN, item[0] != VAL, item[0]))
    manifest = Manifest(**fields, splits=dict(splits))
    check_fields(manifest)
    return manifest, stated_hash


def _to_bytes(manifest: Manifest) -> bytes:
    try:
        # Sorted, so that the hash does not change if fields or splits change their order.
        return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"
    except UnicodeEncodeError as error:
        raise InputError(f"a name {shorten(error.object)} is not valid Unicode") from error


def _decode(data: bytes, kind: type) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        line = "".join(letter if letter.isprintable() else "?" for letter in str(error)[:_MAX_MESSAGE])
        raise InputError(line) from error
