"""Reading a manifest: every field is checked, so that nothing in the file can name or ask for what it must not."""

import json
import math
import pathlib
import re
import shlex
from typing import Any

from pipeline.errors import InputError, shorten
from pipeline.format.json_fields import as_count, as_list, as_pixels, as_text, check_keys
from pipeline.format.manifest import (
    FILE_NAME,
    MAX_CLASSES,
    MAX_IMAGE_BYTES,
    OWN_HASH,
    SPLIT_NAME,
    VERSION,
    Manifest,
    Shard,
    Source,
    Split,
    Validation,
)

_MAX_FILE_BYTES = 64 << 20  # 2 TB of shards need 64 MB of page checksums; parsed, it is some ten times that
MAX_NAME = 1000  # characters of a column's or a class's name
_DATASET_NAME = re.compile("[a-z][a-z0-9_]*")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile("[0-9a-f]{64}")


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
        as_text(raw[OWN_HASH], OWN_HASH, _SHA256)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest of ours ({error}); convert again") from error
    return manifest, raw[OWN_HASH]


def _manifest(raw: Any) -> Manifest:
    if isinstance(raw, dict) and raw.get("version") != VERSION:
        raise ValueError(f"version {shorten(raw.get('version'))}, expected {VERSION}")
    check_keys(raw, "the manifest", Manifest, OWN_HASH)
    shape = tuple(as_count(length, "image_shape") for length in as_list(raw["image_shape"], "image_shape"))
    if len(shape) != 3 or not 0 < math.prod(shape) <= MAX_IMAGE_BYTES:
        raise ValueError(
            f"image_shape {shorten(raw['image_shape'])}, expected height, width, channels of a usual image"
        )
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
        raise ValueError(f"stride {shorten(manifest.stride)}, expected {manifest.layout.stride}")
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
        raise ValueError(f"{where} calls itself {shorten(raw['name'])}")
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
            raise ValueError(
                f"shard {shard.name!r} has {shorten(shard.num_examples)} examples, expected {shorten(dealt)}"
            )
        if shard.num_bytes != shard.num_examples * manifest.stride:
            raise ValueError(f"shard {shard.name!r}: num_bytes is not that of its examples")
        manifest.page_crcs(shard)


def _shard(raw: Any, where: str) -> Shard:
    check_keys(raw, f"a shard of {where}", Shard)
    shard = Shard(**raw)
    as_text(shard.name, "a shard's name", _SHARD_NAME)
    if ".tfrecord" not in shard.name:  # so that it is neither the manifest nor another file of the directory
        raise ValueError(f"a shard's name {shorten(shard.name)} has no .tfrecord in it")
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
        raise ValueError(f"a source's has_header {shorten(source.has_header)} is not true or false")
    for text in (source.name, source.label_column or "", source.id_column or ""):
        if not isinstance(text, str) or len(text) > MAX_NAME:  # a file's name need not be printable
            raise ValueError(f"a source's name or column {shorten(text)} is not one of ours")
    return source


def _validation(raw: Any) -> Validation:
    check_keys(raw, "validation", Validation)
    rule = Validation(**raw)
    if isinstance(rule.fraction, bool) or not isinstance(rule.fraction, (int, float)) or not 0 <= rule.fraction < 1:
        raise ValueError(f"validation fraction {shorten(rule.fraction)} is not from 0 to 1")
    as_text(rule.source, "validation source", SPLIT_NAME), as_count(rule.seed, "validation seed")
    if rule.group_size is not None and not as_count(rule.group_size, "validation group_size"):
        raise ValueError("validation group_size 0 must be 1 or more")
    return rule
