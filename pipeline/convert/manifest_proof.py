"""What an edited manifest said before.

What the shards tell is put back, and the manifest's own hash proves or refutes the result.
"""

import dataclasses
import os
import pathlib

import numpy as np

from pipeline.convert.pixel_stats import PixelStats
from pipeline.format.manifest import Manifest, Shard, Split
from pipeline.format.pages import ShardDigest
from pipeline.format.verify import count_classes, record_blocks


def prove_manifest(directory: str | os.PathLike, manifest: Manifest, stated: str) -> Manifest | None:
    """The manifest whose own hash is `stated`, if all that differs follows from shards that are sound; else None."""
    directory = pathlib.Path(directory)
    splits = {}
    for name, split in manifest.splits.items():
        shards = [_shard_as_it_is(directory, shard, manifest) for shard in split.shards]
        if None in shards:
            return None
        *counts, others = count_classes(directory, manifest, split)
        splits[name] = dataclasses.replace(
            split,
            num_examples=sum(shard.num_examples for shard in shards),
            class_counts=() if others else tuple(counts),
            shards=tuple(shards),
        )
    first_read = manifest.sources[0].split if manifest.sources else ""
    with_stats = splits.get("train", splits.get(first_read))
    if with_stats is None:
        return None
    stats = _pixel_stats(directory, manifest, with_stats)
    proven = dataclasses.replace(manifest, splits=splits, pixel_mean=stats.mean, pixel_std=stats.std)
    return proven if proven.own_sha256 == stated else None


def changed_fields(manifest: Manifest, proven: Manifest) -> list[str]:
    """Names of the fields in which the two differ, such as splits.train.class_counts."""
    return _changed("", dataclasses.asdict(manifest), dataclasses.asdict(proven))


def _changed(place: str, one: object, other: object) -> list[str]:
    if isinstance(one, dict):
        return [each for key in one for each in _changed(f"{place}.{key}" if place else key, one[key], other[key])]
    if isinstance(one, tuple) and one and isinstance(one[0], dict):
        pairs = zip(one, other, strict=True)
        return [each for k, (mine, theirs) in enumerate(pairs) for each in _changed(f"{place}.{k}", mine, theirs)]
    return [place] if one != other else []


def _shard_as_it_is(directory: pathlib.Path, shard: Shard, manifest: Manifest) -> Shard | None:
    """What the manifest would say of a file whose records are all sound, or None."""
    path = directory / shard.name
    if not path.is_file() or not path.stat().st_size or path.stat().st_size % manifest.stride:
        return None
    digest, count = ShardDigest(manifest.stride), 0
    for _, records in record_blocks(path, manifest.stride):
        if manifest.layout.broken(records).any():
            return None
        digest.update(records.reshape(-1))
        count += len(records)
    return Shard(shard.name, count, count * manifest.stride, digest.page_crc32c, digest.sha256)


def _pixel_stats(directory: pathlib.Path, manifest: Manifest, split: Split) -> PixelStats:
    stats = PixelStats(manifest.image_shape[2])
    for shard in split.shards:
        for _, records in record_blocks(directory / shard.name, manifest.stride):
            images = np.ascontiguousarray(manifest.layout.decode(records)[0])
            stats.merge(PixelStats.of(images, manifest.image_shape[2]))
    return stats
