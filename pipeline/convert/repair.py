"""Putting a damaged data set back, byte for byte: only what is broken, out of the CSVs that it was made from.

Nothing is believed: a CSV must have the hash of the one that was converted, and a shard that is rebuilt the hash of the
one that was written, before it takes the broken one's place.
"""

import collections
import contextlib
import fcntl
import os
import pathlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from pipeline.convert.columns import NONE
from pipeline.convert.csv_source import (
    NUM_THREADS,
    CsvSource,
    ReadOptions,
    ids_or_numbers,
    labels_or_unlabelled,
)
from pipeline.convert.manifest_proof import changed_fields, prove_manifest
from pipeline.convert.position import sha256_of
from pipeline.convert.shard_writer import deal_rows
from pipeline.convert.val_split import ValidationSampler
from pipeline.errors import InputError
from pipeline.files import remove_stale, replacing, write_text_atomically
from pipeline.format.manifest import FILE_NAME, Manifest, Source, read_manifest
from pipeline.format.pages import ShardDigest
from pipeline.format.records import UNLABELLED
from pipeline.format.tfds_metadata import metadata_files
from pipeline.format.verify import Inspection, inspect
from pipeline.splits import VAL

_MAX_OPEN = 64  # shards rebuilt in one reading of the CSVs


def repair(directory: str | os.PathLike, given: Sequence[tuple[str, str | os.PathLike]]) -> list[str]:
    """Mend what `inspect` finds and prove that it is mended; one line for each thing done.

    Args:
        directory: the data set.
        given: (split, CSV) pairs as the conversion had them; only those of broken shards are needed.

    Raises:
        InputError: something cannot be mended; the line says why. No shard that is not proved takes another's place.
    """
    directory = pathlib.Path(directory)
    with _alone(directory):
        return _repair(directory, given)


@contextlib.contextmanager
def _alone(directory: pathlib.Path) -> Iterator[None]:
    """Keep other repairs away; the directory itself is locked, so that nothing is put into it for that."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"{directory}: another repair is at work on it; wait for it") from error
    finally:
        os.close(handle)


def _repair(directory: pathlib.Path, given: Sequence[tuple[str, str | os.PathLike]]) -> list[str]:
    manifest, done = _sound_manifest(directory)
    remove_stale(directory)
    found = inspect(directory, manifest)
    for name in [*found.shards, *found.metadata]:
        if (directory / name).is_dir():
            raise InputError(f"{directory / name}: a directory has the name of a file to repair; move it away")
    moves = _moves(found)
    broken = [name for name in found.shards if name not in moves.values()]
    csvs = _needed_csvs(manifest, broken, given)
    _rename(directory, moves)
    done += [f"{new}: put back, it was {old}" for old, new in moves.items()]
    for sources, names in _by_sources(manifest, broken).items():
        for start in range(0, len(names), _MAX_OPEN):
            _rebuild(directory, manifest, sources, names[start : start + _MAX_OPEN], csvs)
    done += [f"{name}: rebuilt" for name in broken]
    texts = metadata_files(manifest)
    for name in found.metadata:
        write_text_atomically(directory / name, texts[name])
        done.append(f"{name}: written again")
    left = inspect(directory, manifest)
    for name in [*left.shards, *left.metadata, *left.contents]:
        raise InputError(f"{directory}: still damaged after the repair ({name}); was it changed meanwhile?")
    return done + [f"{name}: left alone, the manifest does not name it; move it away" for name in left.extra]


def _sound_manifest(directory: pathlib.Path) -> tuple[Manifest, list[str]]:
    manifest, stated = read_manifest(directory)
    if manifest.own_sha256 == stated:
        return manifest, []
    proven = prove_manifest(directory, manifest, stated)
    if proven is None:
        raise InputError(
            f"{directory / FILE_NAME}: changed since it was written, and the shards do not prove what it said; "
            "get it from a copy, or convert again"
        )
    write_text_atomically(directory / FILE_NAME, proven.to_json())
    fields = ", ".join(changed_fields(manifest, proven))
    return proven, [f"{FILE_NAME}: {fields} put back, as its own hash proves"]


def _moves(found: Inspection) -> dict[str, str]:
    """File -> the name that its content belongs under, for what only has to be renamed."""
    moves: dict[str, str] = {}
    for name, file in found.found_as.items():
        moves.setdefault(file, name)
    return moves


def _rename(directory: pathlib.Path, moves: Mapping[str, str]) -> None:
    # By way of names that no shard has, because two files may have to change places. `inspect` finds them under any.
    halfway = {f".moving-{secrets.token_hex(4)}.tfrecord": (old, new) for old, new in moves.items()}
    for temporary, (old, _) in halfway.items():
        (directory / old).rename(directory / temporary)
    for temporary, (_, new) in halfway.items():
        (directory / temporary).rename(directory / new)


def _by_sources(manifest: Manifest, names: Sequence[str]) -> dict[tuple[Source, ...], list[str]]:
    groups = collections.defaultdict(list)
    for split in manifest.splits.values():
        for shard in split.shards:
            if shard.name in names:
                groups[manifest.sources_of(split.name)].append(shard.name)
    return groups


def _needed_csvs(
    manifest: Manifest, broken: Sequence[str], given: Sequence[tuple[str, str | os.PathLike]]
) -> dict[Source, pathlib.Path]:
    """Where the CSVs of the broken shards are now, found by their hashes."""
    known = {source.split for source in manifest.sources}
    for split, path in given:
        if split not in known:
            raise InputError(
                f"--from {split}={path}: no CSV of a split {split!r} was converted, only of {_list(known)}"
            )
    paths: dict[Source, pathlib.Path] = {}
    for sources, names in _by_sources(manifest, broken).items():
        if not sources:
            raise InputError(f"{names[0]}: cannot be rebuilt, the data set was not made from CSVs; make it again")
        for source in sources:
            paths[source] = _path_of(source, names[0], given)
    return paths


def _path_of(source: Source, shard: str, given: Sequence[tuple[str, str | os.PathLike]]) -> pathlib.Path:
    candidates = [pathlib.Path(path) for split, path in given if split == source.split]
    if not candidates:
        raise InputError(
            f"{shard}: can be rebuilt from {source.name} alone; give it as --from {source.split}={source.name}"
        )
    for path in candidates:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if sha256_of(path) == source.sha256:
            return path
    raise InputError(
        f"{candidates[0]}: not the {source.name} that was converted, its SHA-256 is not {source.sha256}; "
        "get that file, or convert again"
    )


def _rebuild(
    directory: pathlib.Path,
    manifest: Manifest,
    sources: tuple[Source, ...],
    names: Sequence[str],
    csvs: Mapping[Source, pathlib.Path],
) -> None:
    """Write these shards anew; all of them take their places together, when all are proved."""
    wanted = {
        (split.name, place): shard
        for split in manifest.splits.values()
        for place, shard in enumerate(split.shards)
        if shard.name in names
    }
    classes = _class_labels(manifest)
    num_rows: collections.Counter = collections.Counter()
    with contextlib.ExitStack() as stack:
        files, digests = {}, {}
        for key, shard in wanted.items():
            path = stack.enter_context(replacing(directory / shard.name))
            files[key], digests[key] = stack.enter_context(path.open("wb")), ShardDigest(manifest.stride)
        pool = stack.enter_context(ThreadPoolExecutor(NUM_THREADS))
        for split, images, labels, ids in _rows(manifest, sources, csvs, pool):
            deal = deal_rows(num_rows[split], len(images), len(manifest.split(split).shards))
            num_rows[split] += len(images)
            for place, rows in deal:
                if (split, place) in wanted:
                    indices = np.where(labels == UNLABELLED, UNLABELLED, np.searchsorted(classes, labels))
                    records = manifest.layout.encode(images[rows], indices[rows], ids[rows]).reshape(-1)
                    digests[split, place].update(records)
                    files[split, place].write(records)
        for key, shard in wanted.items():
            files[key].close()
            if digests[key].sha256 != shard.sha256:
                raise InputError(
                    f"{shard.name}: what {sources[0].name} gives is not what was written there; convert again"
                )


def _class_labels(manifest: Manifest) -> np.ndarray:
    """int64 [classes]: the label that the CSVs have for each class."""
    try:
        return np.array([int(name) for name in manifest.class_names], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{manifest.name}: its class names are no labels of a CSV, so it cannot be rebuilt") from error


def _rows(
    manifest: Manifest, sources: tuple[Source, ...], csvs: Mapping[Source, pathlib.Path], pool: Executor
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(split, images, labels, ids) of the rows of these CSVs in their order, as the converter sends them to splits."""
    rule, name = manifest.validation, sources[0].split
    sampler, size = None, rule.group_size or 1
    if rule.fraction and name == rule.source:
        sampler = ValidationSampler(rule.fraction, rule.seed, rule.group_size)
    row = place = 0
    for source in sources:
        place = -(-place // size) * size  # a group ends with its file
        options = ReadOptions(source.has_header, source.label_column or NONE, source.id_column or NONE)
        with contextlib.closing(CsvSource(csvs[source], options).read_rows(pool)) as blocks:
            for rows in blocks:
                labels, ids = labels_or_unlabelled(rows), ids_or_numbers(rows, row)
                drawn = sampler.select(labels, place) if sampler else np.zeros(len(labels), bool)
                for split, mask in ((name, ~drawn), (VAL, drawn)):
                    if mask.any():
                        yield split, rows.images[mask], labels[mask], ids[mask]
                row += len(labels)
                place += len(labels)


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
