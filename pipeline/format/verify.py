"""Whether a data set's files are still what its manifest says; where not, what happened to each of them.

A shard is proved by its SHA-256. Only one that fails is looked at record by record, and compared by hash with all the
others, because a shard may have been swapped or renamed.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from pipeline.convert.position import sha256_of
from pipeline.format.manifest import Manifest, Shard, Split
from pipeline.format.pages import page_rows, wrong_page
from pipeline.format.tfds_metadata import metadata_files

_READ_BYTES = 4 << 20  # at a time, in whole records
_SHOWN_IDS = 5


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What `inspect` found, file names as keys; all are empty where nothing is wrong.

    `shards` says what is wrong with each shard of the manifest that is missing or differs, and `found_as` where its
    content lies under another name. `metadata` are the files for TensorFlow Datasets, `extra` shards that the manifest
    does not name, and `contents` are lines on classes and ids.
    """

    shards: dict[str, str]
    found_as: dict[str, str]
    metadata: dict[str, str]
    extra: dict[str, str]
    contents: list[str]

    def lines(self) -> Iterator[str]:
        """One line for each thing that is wrong."""
        for problems in (self.shards, self.extra, self.metadata):
            yield from (f"{name}: {problem}" for name, problem in problems.items())
        yield from self.contents


def inspect(directory: str | os.PathLike, manifest: Manifest) -> Inspection:
    """Compare every file of a data set with its manifest; all shards are read."""
    directory = pathlib.Path(directory)
    expected = {shard.name: shard for split in manifest.splits.values() for shard in split.shards}
    hashes = {name: _hash_of(directory / name) for name in expected}
    wrong = [name for name, shard in expected.items() if hashes[name] != shard.sha256]
    strangers = sorted(path.name for path in directory.glob("*.tfrecord*") if path.name not in expected)
    places: dict[str, list[str]] = collections.defaultdict(list)
    for name in [*(wrong), *strangers]:
        places[hashes.get(name) or _hash_of(directory / name)].append(name)
    found_as = {name: places[expected[name].sha256][0] for name in wrong if places[expected[name].sha256]}
    owners = {shard.sha256: name for name, shard in expected.items()}
    shards = {}
    for name in wrong:
        owner = owners.get(hashes[name])
        if owner:
            shards[name] = f"holds the records of {owner}" + ("" if owner in wrong else ", which has them too")
        else:
            shards[name] = shard_damage(directory / name, expected[name], manifest)
        if name in found_as:
            shards[name] += f"; its own are in {found_as[name]}"
    extra = {name: "extra, the manifest does not name it" for name in strangers}
    extra |= {file: f"extra, it holds the records of {name}" for name, file in found_as.items() if file in extra}
    contents = [*_class_lines(directory, manifest, shards), *_id_lines(directory, manifest, shards, found_as)]
    return Inspection(shards, found_as, _metadata_damage(directory, manifest), extra, contents)


def shard_damage(path: pathlib.Path, shard: Shard, manifest: Manifest) -> str:
    """What is wrong with a shard whose SHA-256 is not the manifest's."""
    if not path.is_file():
        return _absence(path)
    stride = manifest.stride
    size = path.stat().st_size
    whole, rest = divmod(size, stride)
    broken, first, pages_hold = 0, None, size == shard.num_bytes
    for start, records in record_blocks(path, stride):
        wrong = manifest.layout.broken(records)
        if wrong.any() and first is None:
            first = start + int(wrong.argmax())
        broken += int(wrong.sum())
    told = []
    if size < shard.num_bytes:
        lost = shard.num_examples - whole
        boundary = f"cut on a record boundary, after record {whole - 1}" if whole else "empty"
        cut = f"cut inside record {whole}" if rest else boundary
        told.append(f"{size:,} bytes, expected {shard.num_bytes:,}: {cut}; {lost:,} of {shard.num_examples:,} are gone")
    elif size > shard.num_bytes:
        told.append(f"{size:,} bytes, expected {shard.num_bytes:,}: {size - shard.num_bytes:,} too many")
    if broken:
        told.append(f"record {first} (counted from 0) is damaged" + (f", {broken:,} in all" if broken > 1 else ""))
    elif pages_hold:
        told.append(_wrong_pages(path, shard, manifest))
    return "; ".join(told)


def count_classes(directory: pathlib.Path, manifest: Manifest, split: Split) -> tuple[int, ...]:
    """How many records of a split have each class; one more entry counts those of no class of the manifest."""
    counts = np.zeros(manifest.num_classes + 1, np.int64)
    for shard in split.shards:
        for _, records in record_blocks(directory / shard.name, manifest.stride):
            labels = manifest.layout.decode(records)[1]
            outside = (labels < 0) | (labels >= manifest.num_classes)
            counts += np.bincount(np.where(outside, manifest.num_classes, labels), minlength=len(counts))
    return tuple(counts.tolist())


def record_blocks(path: pathlib.Path, stride: int) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first one, records uint8 [n, stride]) over the whole records of a file."""
    step, first = max(1, _READ_BYTES // stride), 0
    with path.open("rb") as file:
        while whole := len(data := file.read(step * stride)) // stride:
            yield first, np.frombuffer(data, np.uint8, whole * stride).reshape(whole, stride)
            first += whole


def _absence(path: pathlib.Path) -> str:
    return "a directory has its name" if path.is_dir() else "missing"


def _hash_of(path: pathlib.Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _wrong_pages(path: pathlib.Path, shard: Shard, manifest: Manifest) -> str:
    rows = page_rows(manifest.stride)
    crcs = manifest.page_crcs(shard)
    with path.open("rb") as file:
        for page, crc in enumerate(crcs):
            data = np.frombuffer(file.read(rows * manifest.stride), np.uint8)
            if wrong_page(data, len(data), np.array([crc])) is not None:
                low, high = page * rows, min((page + 1) * rows, shard.num_examples) - 1
                return f"records {low} to {high} are sound, but not those that were written there (doubled or moved)"
    return "all pages are as the manifest says, but not the SHA-256; so it is the manifest that was changed"


def _metadata_damage(directory: pathlib.Path, manifest: Manifest) -> dict[str, str]:
    damage = {}
    for name, text in metadata_files(manifest).items():
        path = directory / name
        if not path.is_file():
            damage[name] = _absence(path)
        elif path.stat().st_size != len(text.encode()) or path.read_bytes() != text.encode():
            damage[name] = "not as it was written"
    return damage


def _class_lines(directory: pathlib.Path, manifest: Manifest, wrong: dict[str, str]) -> Iterator[str]:
    """Splits whose shards are as written, but hold other classes than the manifest counts."""
    for split in manifest.splits.values():
        if any(shard.name in wrong for shard in split.shards):
            continue
        *counts, others = count_classes(directory, manifest, split)
        counts = tuple(counts) if split.labelled else ()
        if counts != split.class_counts or bool(others) == split.labelled:
            differing = [k for k, count in enumerate(counts) if count != split.class_counts[k]]
            name = f"class {manifest.class_names[differing[0]]}" if differing else "labels"
            yield f"split {split.name}: its records do not have the {name} that the manifest counts"


def _id_lines(
    directory: pathlib.Path, manifest: Manifest, wrong: dict[str, str], found_as: dict[str, str]
) -> Iterator[str]:
    """Ids that are doubled or missing among the sound records of splits that have a wrong shard."""
    groups: dict[tuple | str, list[Split]] = collections.defaultdict(list)
    for split in manifest.splits.values():
        groups[manifest.sources_of(split.name) or split.name].append(split)
    for splits in groups.values():
        if not any(shard.name in wrong for split in splits for shard in split.shards):
            continue
        name = " and ".join(split.name for split in splits)
        names = [shard.name for split in splits for shard in split.shards]
        ids = _sound_ids([directory / found_as.get(shard, shard) for shard in names], manifest)
        found, times = np.unique(ids, return_counts=True)
        if (times > 1).any():
            yield f"split {name}: ids that stand twice: {_some(found[times > 1].tolist(), int((times > 1).sum()))}"
        total = min(sum(split.num_examples for split in splits), 2**63 - 1)
        sources = manifest.sources_of(splits[0].name)
        if sources and all(source.id_column is None for source in sources) and total > len(found):
            yield f"split {name}: ids that are missing: {_some(_gaps(found, total), total - len(found))}"


def _sound_ids(paths: list[pathlib.Path], manifest: Manifest) -> np.ndarray:
    ids = [np.empty(0, np.int64)]
    for path in filter(pathlib.Path.is_file, paths):
        for _, records in record_blocks(path, manifest.stride):
            ids.append(manifest.layout.decode(records[~manifest.layout.broken(records)])[2])
    return np.concatenate(ids)


def _gaps(found: np.ndarray, total: int) -> list[int]:
    """The first few of 0 .. total - 1 that are not among `found`, in ascending order; `total` may be absurd."""
    bounds = np.concatenate([[-1], found[(found >= 0) & (found < total)], [total]])
    before = np.flatnonzero(np.diff(bounds) > 1)
    missing = (range(low + 1, stop) for low, stop in zip(bounds[before], bounds[before + 1], strict=True))
    return list(itertools.islice(itertools.chain.from_iterable(missing), _SHOWN_IDS))


def _some(values: list[int], count: int) -> str:
    shown = ", ".join(map(str, values[:_SHOWN_IDS]))
    return f"{shown}, ... ({count:,} in all)" if count > _SHOWN_IDS else shown
