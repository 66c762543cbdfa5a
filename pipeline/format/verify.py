"""Whether a data set's files match its manifest, and if not, what happened to each of them.

A shard is verified by its SHA-256. Only one that fails is examined record by record, and compared by hash with all
others, because shards may have been swapped or renamed.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator

import google_crc32c
import numpy as np

from pipeline.errors import list_few
from pipeline.files import sha256_of
from pipeline.format.manifest import Manifest, Shard, Split
from pipeline.format.records import page_rows
from pipeline.format.text_ids import id_files, problem_of
from pipeline.format.tfds_metadata import metadata_files
from pipeline.remote import as_path, file_size, list_at_once

_MAX_IDS = 5  # that a line lists


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The problems that `inspect` found, by file name.

    `shards` has the problem of each shard that is missing or differs, `found_as` the other name under which its content
    is. `metadata` are the files for TensorFlow Datasets, `extra` shards that the manifest does not list, `id_files`
    those of ids that are text, and `contents` lines about classes and ids.
    """

    shards: dict[str, str]
    found_as: dict[str, str]
    metadata: dict[str, str]
    extra: dict[str, str]
    id_files: dict[str, str]
    contents: list[str]

    def lines(self) -> Iterator[str]:
        """One line per problem."""
        for problems in (self.shards, self.extra, self.metadata, self.id_files):
            yield from (f"{name}: {problem}" for name, problem in problems.items())
        yield from self.contents


def inspect(directory: str | os.PathLike, manifest: Manifest) -> Inspection:
    """Compare every file of a data set with its manifest; all shards are read."""
    directory = as_path(directory)
    list_at_once(directory)
    expected = {shard.name: shard for shard in manifest.all_shards}
    unlisted = sorted(path.name for path in directory.glob("*.tfrecord*") if path.name not in expected)
    hashes = {
        name: sha256_of(directory / name) for name in (*expected, *unlisted) if file_size(directory / name) is not None
    }
    wrong = [name for name, shard in expected.items() if hashes.get(name) != shard.sha256]
    owners = {shard.sha256: name for name, shard in expected.items()}
    # Reversed, so that of several files with one content the first listed is named.
    misplaced = {hashes[name]: name for name in reversed((*wrong, *unlisted)) if name in hashes}
    found_as = {name: misplaced[expected[name].sha256] for name in wrong if expected[name].sha256 in misplaced}
    shards = {}
    for name in wrong:
        owner = owners.get(hashes.get(name, ""))
        if owner:
            shards[name] = f"holds the records of {owner}" + ("" if owner in wrong else ", which has them too")
        else:
            shards[name] = _shard_problem(directory / name, expected[name], manifest)
        if name in found_as:
            shards[name] += f"; its own are in {found_as[name]}"
    extra = dict.fromkeys(unlisted, "extra, the manifest does not list it")
    extra |= {file: f"extra, it holds the records of {name}" for name, file in found_as.items() if file in extra}
    contents = [*_class_lines(directory, manifest, shards), *_id_lines(directory, manifest, shards, found_as)]
    of_ids = {name: problem_of(directory / name, sha256) for name, sha256 in id_files(manifest).items()}
    id_problems = {name: problem for name, problem in of_ids.items() if problem is not None}
    return Inspection(shards, found_as, _metadata_problems(directory, manifest), extra, id_problems, contents)


def _shard_problem(path: pathlib.Path, shard: Shard, manifest: Manifest) -> str:
    """Why a shard does not have the manifest's SHA-256."""
    if not path.is_file():
        return _absence(path)
    size = path.stat().st_size
    # Each record has a CRC of its own, so the place is known more exactly than by pages.
    corrupt = [start + np.flatnonzero(manifest.layout.corrupt(page)) for start, page in _pages(path, manifest)]
    records = np.concatenate([np.empty(0, np.int64), *corrupt])
    problems = []
    if size != shard.num_bytes:
        problems.append(f"{size:,} bytes, expected {shard.num_bytes:,}: {_size_problem(size, shard, manifest.stride)}")
    if len(records):
        total = f", {len(records):,} in all" if len(records) > 1 else ""
        problems.append(f"record {records[0]} (counted from 0) is corrupt{total}")
    elif size == shard.num_bytes:
        problems.append(_page_problem(path, shard, manifest))
    return "; ".join(problems)


def _pages(path: pathlib.Path, manifest: Manifest) -> Iterator[tuple[int, np.ndarray]]:
    """(number of its first record, records uint8 [n, stride]) of each page of a file, without a cut last record."""
    stride, rows = manifest.stride, page_rows(manifest.stride)
    with path.open("rb") as file:
        for first in itertools.count(0, rows):
            data = file.read(rows * stride)
            if len(data) < stride:
                return
            yield first, np.frombuffer(data, np.uint8, len(data) // stride * stride).reshape(-1, stride)


def _absence(path: pathlib.Path) -> str:
    return "a directory has its name" if path.is_dir() else "missing"


def _size_problem(size: int, shard: Shard, stride: int) -> str:
    if size > shard.num_bytes:
        return f"{size - shard.num_bytes:,} too many"
    whole, rest = divmod(size, stride)
    boundary = f"truncated after record {whole - 1}" if whole else "empty"
    place = f"truncated inside record {whole}" if rest else boundary
    return f"{place}; {shard.num_examples - whole:,} of {shard.num_examples:,} are lost"


def _page_problem(path: pathlib.Path, shard: Shard, manifest: Manifest) -> str:
    """The first page of valid records, in a file of the right size, that does not have the manifest's checksum."""
    for (first, page), crc in zip(_pages(path, manifest), manifest.page_crcs(shard), strict=True):
        if google_crc32c.value(page.reshape(-1)) != crc:
            last = first + len(page) - 1
            return f"records {first} to {last} are valid, but not the ones written there (duplicated or moved)"
    return "all pages match the manifest, but not the SHA-256, so the manifest was edited"


def _metadata_problems(directory: pathlib.Path, manifest: Manifest) -> dict[str, str]:
    problems = {}
    for name, text in metadata_files(manifest).items():
        path = directory / name
        if not path.is_file():
            problems[name] = _absence(path)
        elif path.stat().st_size != len(text.encode()) or path.read_bytes() != text.encode():
            problems[name] = "changed since it was written"
    return problems


def _class_lines(directory: pathlib.Path, manifest: Manifest, wrong: dict[str, str]) -> Iterator[str]:
    """Splits whose shards are as written, but have other classes than the manifest counts."""
    for split in manifest.splits.values():
        if any(shard.name in wrong for shard in split.shards):
            continue  # its counts differ anyway
        counts = np.zeros(manifest.num_classes + 1, np.int64)  # the last one of labels that are not classes
        for _, records in itertools.chain(*(_pages(directory / shard.name, manifest) for shard in split.shards)):
            labels = manifest.layout.decode(records)[1]
            outside = (labels < 0) | (labels >= manifest.num_classes)
            counts += np.bincount(np.where(outside, manifest.num_classes, labels), minlength=len(counts))
        # An unlabelled split has only labels outside the classes (-1), a labelled one has none.
        differing = [k for k, count in enumerate(split.class_counts) if count != counts[k]]
        if differing or bool(counts[-1]) == split.labelled:
            name = f"class {manifest.class_names[differing[0]]}" if differing else "labels"
            yield f"split {split.name}: its records do not have the {name} that the manifest counts"


def _id_lines(
    directory: pathlib.Path, manifest: Manifest, wrong: dict[str, str], found_as: dict[str, str]
) -> Iterator[str]:
    """Ids that are duplicated or missing among the valid records of splits that have a wrong shard."""
    groups: dict[tuple | str, list[Split]] = collections.defaultdict(list)
    for split in manifest.splits.values():  # train and the val split off from it share their ids
        groups[manifest.sources_of(split.name) or split.name].append(split)
    for sources, splits in groups.items():
        shards = [shard.name for split in splits for shard in split.shards]
        if not wrong.keys() & set(shards):
            continue
        names = " and ".join(split.name for split in splits)
        ids = _valid_ids([directory / found_as.get(shard, shard) for shard in shards], manifest)
        present, times = np.unique(ids, return_counts=True)
        if (repeated := present[times > 1]).size:
            yield f"split {names}: duplicate ids: {list_few(repeated.tolist(), _MAX_IDS, len(repeated))}"
        total = sum(split.num_examples for split in splits)
        # Ids from a column may have gaps; row numbers may not.
        numbered = isinstance(sources, tuple) and all(source.id_column is None for source in sources)
        if numbered and total > len(present):
            yield f"split {names}: missing ids: {list_few(_gaps(present, total), _MAX_IDS, total - len(present))}"


def _valid_ids(paths: list[pathlib.Path], manifest: Manifest) -> np.ndarray:
    ids = [np.empty(0, np.int64)]
    for _, page in itertools.chain(*(_pages(path, manifest) for path in paths if path.is_file())):
        ids.append(manifest.layout.decode(page[~manifest.layout.corrupt(page)])[2])
    return np.concatenate(ids)


def _gaps(present: np.ndarray, total: int) -> list[int]:
    """The first few of 0 .. total - 1 that are not in `present`, int64 [n] ascending."""
    bounds = np.concatenate([[-1], present[(present >= 0) & (present < total)], [total]])
    before = np.flatnonzero(np.diff(bounds) > 1)[:_MAX_IDS]
    missing = (range(bounds[k] + 1, bounds[k + 1]) for k in before)
    return list(itertools.islice(itertools.chain.from_iterable(missing), _MAX_IDS))
