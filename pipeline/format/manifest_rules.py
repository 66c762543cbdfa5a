"""The rules between fields of a manifest, which its types cannot express."""

import collections
import math
from typing import TYPE_CHECKING

from pipeline.errors import InputError, pluralize, shorten
from pipeline.format.records import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from pipeline.format.manifest import Manifest, Split

_MAX_CLASS_NAME = 255


def check_fields(manifest: "Manifest") -> None:
    """The rules between fields; sizes come first, as later rules allocate memory by them."""
    if math.prod(manifest.image_shape) > MAX_IMAGE_BYTES:
        raise InputError(f"image_shape {shorten(manifest.image_shape)} is over {MAX_IMAGE_BYTES:,} bytes")
    if manifest.stride != manifest.layout.stride:
        raise InputError(f"stride {manifest.stride}, expected {manifest.layout.stride}")
    channels = manifest.image_shape[2]
    for field, values in (("pixel_mean", manifest.pixel_mean), ("pixel_std", manifest.pixel_std)):
        if len(values) != channels:
            raise InputError(f"{field} needs one value for {pluralize(channels, 'channel')}")
    _check_names(manifest)
    for split in manifest.splits.values():
        _check_split(split, manifest)


def _check_names(manifest: "Manifest") -> None:
    for name in manifest.class_names:
        if not is_class_name(name):
            raise InputError(f"class name {shorten(name)} is not 1 to {_MAX_CLASS_NAME} printable characters")
    if len(set(manifest.class_names)) != manifest.num_classes:
        raise InputError("two class names are equal")
    if manifest.planned_shards.keys() - {source.split for source in manifest.sources}:
        raise InputError("planned_shards names a split without a source")
    for name, split in manifest.splits.items():
        if split.name != name:
            raise InputError(f"split {name!r} has the name {split.name!r}")
    names = collections.Counter(shard.name for shard in manifest.all_shards)
    name, times = names.most_common(1)[0]
    if times > 1:
        raise InputError(f"shard {name!r} is listed {times} times")


def is_class_name(name: str) -> bool:
    """Whether a class may have this name, so that it can be shown and stored on one line."""
    return 0 < len(name) <= _MAX_CLASS_NAME and name.isprintable()


def _check_split(split: "Split", manifest: "Manifest") -> None:
    where = f"split {split.name!r}"
    if sum(shard.num_examples for shard in split.shards) != split.num_examples:
        raise InputError(f"the shards of {where} do not add up to its examples")
    if split.labelled and sum(split.class_counts) != split.num_examples:
        raise InputError(f"the class counts of {where} do not add up to its examples")
    if split.labelled and len(split.class_counts) != manifest.num_classes:
        raise InputError(f"{where} counts {len(split.class_counts)} classes, expected {manifest.num_classes}")
    for shard in split.shards:
        if shard.num_bytes != shard.num_examples * manifest.stride:
            raise InputError(f"shard {shard.name!r}: {shard.num_bytes} bytes do not match its examples")
        try:
            manifest.page_crcs(shard)
        except ValueError as error:
            raise InputError(f"shard {shard.name!r}: {error}") from error
