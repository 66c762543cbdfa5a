"""Whether a data set's files are still what its manifest says, down to each record."""

import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from pipeline.convert.manifest import Manifest, Shard
from pipeline.convert.schema import RecordLayout
from pipeline.convert.tfds_metadata import metadata_files

_READ_BYTES = 4 << 20  # at a time, in whole records


def find_damage(directory: str | os.PathLike, manifest: Manifest) -> Iterator[str]:
    """One line for each file that is missing or differs, naming the first broken record of a shard."""
    directory = pathlib.Path(directory)
    for split in manifest.splits.values():
        for shard in split.shards:
            problem = _shard_damage(directory / shard.name, shard, manifest.layout)
            if problem:
                yield f"{shard.name}: {problem}"
    for name, text in metadata_files(manifest).items():
        path = directory / name
        if not path.is_file():
            yield f"{name}: missing"
        elif path.read_bytes() != text.encode():
            yield f"{name}: not as it was written"


def _shard_damage(path: pathlib.Path, shard: Shard, layout: RecordLayout) -> str:
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != shard.num_bytes:
        return f"{size:,} bytes, expected {shard.num_bytes:,}"
    digest, first = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(max(1, _READ_BYTES // layout.stride) * layout.stride):
            digest.update(data)
            whole = len(data) // layout.stride
            records = np.frombuffer(data, np.uint8, whole * layout.stride).reshape(whole, layout.stride)
            broken = layout.first_broken(records)
            if broken is not None:
                return f"record {first + broken} (counted from 0) is damaged"
            first += whole
    return "" if digest.hexdigest() == shard.sha256 else "its SHA-256 is not the manifest's"
