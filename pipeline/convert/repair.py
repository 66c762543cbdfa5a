"""Restoring a corrupt data set byte for byte: the tasks of corrupt shards are run again.

Nothing is trusted: a CSV must have the hash of the one that was converted, and a rebuilt shard the hash of the one that
was written, before it takes the place of a corrupt one.
"""

import contextlib
import itertools
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence

from pipeline.convert.converter import make_workers
from pipeline.convert.csv.columns import NONE
from pipeline.convert.csv.reader import CsvFile, ReadOptions
from pipeline.convert.csv.strict import MAX_INTEGER
from pipeline.convert.output import lock_target
from pipeline.convert.plan import Rules, make_plan
from pipeline.convert.task import run_tasks
from pipeline.errors import InputError
from pipeline.files import remove_stale, write_text
from pipeline.format.manifest import FILE_NAME, Manifest, Source, read_manifest
from pipeline.format.tfds_metadata import metadata_files
from pipeline.format.verify import Inspection, inspect
from pipeline.remote import is_remote
from pipeline.splits import VAL

Given = Sequence[tuple[str, str | os.PathLike]]


def repair(directory: str | os.PathLike, given: Given) -> list[str]:
    """Fix what `inspect` finds and prove that it is fixed; returns a line per change.

    Args:
        directory: the data set.
        given: (split, CSV) pairs as in the conversion; only those of corrupt shards are needed.

    Raises:
        InputError: something cannot be repaired; the line says why. No shard is replaced by an unverified one.
    """
    if is_remote(directory):
        raise InputError(f"{directory}: repaired on a local disk only; copy it here, repair it, and store it again")
    target = pathlib.Path(os.path.realpath(directory))
    if not target.is_dir():
        raise InputError(f"{directory}: no such directory")
    with lock_target(target, directory), _scratch(target) as scratch:
        return _repair(pathlib.Path(directory), given, scratch)


def _repair(directory: pathlib.Path, given: Given, scratch: pathlib.Path) -> list[str]:
    manifest, stated_hash = read_manifest(directory)
    if manifest.own_sha256 != stated_hash:
        raise InputError(
            f"{directory / FILE_NAME}: changed since it was written, so no shard can be verified by it; "
            "restore it from a copy, or convert again"
        )
    remove_stale(directory)
    problems = inspect(directory, manifest)
    for name, problem in problems.id_files.items():
        raise InputError(f"{directory / name}: {problem}; it cannot be rebuilt: restore a copy, or convert again")
    for name in [*problems.shards, *problems.metadata]:
        _check_replaceable(directory / name)
    moves = _moves(problems)
    corrupt = [name for name in problems.shards if name not in moves.values()]
    _rebuild(manifest, corrupt, given, scratch)
    # From here on files are replaced, and all that goes there is verified. A kill is repaired by the next call.
    _rename(directory, moves)
    for name in corrupt:
        (scratch / name).replace(directory / name)
    for name in problems.metadata:
        write_text(directory / name, metadata_files(manifest)[name])
    left = inspect(directory, manifest)
    for name in [*left.shards, *left.metadata, *left.contents]:
        raise InputError(f"{directory}: still corrupt after the repair ({name}); was it changed meanwhile?")
    return [
        *(f"{new}: renamed back from {old}" for old, new in moves.items()),
        *(f"{name}: rebuilt" for name in corrupt),
        *(f"{name}: written again" for name in problems.metadata),
        *(f"{name}: not touched, the manifest does not list it; move it away" for name in left.extra),
    ]


def _check_replaceable(path: pathlib.Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: a directory has the name of a file to repair; move it away")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise InputError(f"{path}: not a regular file, which a repair would replace; move it away")


def _moves(problems: Inspection) -> dict[str, str]:
    """File -> the name that its content belongs under, for shards that only need renaming."""
    moves: dict[str, str] = {}
    for name, file in problems.found_as.items():
        moves.setdefault(file, name)
    return moves


def _rename(directory: pathlib.Path, moves: Mapping[str, str]) -> None:
    # By way of unused names, because two files may have to swap theirs. `inspect` finds them under any name.
    halfway = {f".moving-{secrets.token_hex(4)}.tfrecord": (old, new) for old, new in moves.items()}
    for temporary, (old, _) in halfway.items():
        (directory / old).rename(directory / temporary)
    for temporary, (_, new) in halfway.items():
        (directory / temporary).rename(directory / new)


def _rebuild(manifest: Manifest, corrupt: Sequence[str], given: Given, scratch: pathlib.Path) -> None:
    """Run the tasks of these shards, as the conversion did, and verify what they write to `scratch`."""
    known = {source.split for source in manifest.sources}
    for split, path in given:
        if split not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InputError(f"--from {split}={path}: no CSV of a split {split!r} was converted, only of {names}")
    inputs: dict[str, list[CsvFile]] = {}
    for name, written in manifest.splits.items():
        shards = [shard.name for shard in written.shards if shard.name in corrupt]
        split = manifest.validation.source if name == VAL and manifest.validation.fraction else name
        if shards and split not in inputs:
            inputs[split] = _open_sources(manifest, split, shards[0], [path for other, path in given if other == split])
    if inputs:
        _run_tasks(manifest, corrupt, inputs, scratch)


def _open_sources(manifest: Manifest, split: str, shard: str, given: Sequence[str | os.PathLike]) -> list[CsvFile]:
    """The files that were converted, in that order; recognised by size and name, then proven by their hash."""
    files: list[CsvFile] = []
    paths = [pathlib.Path(path) for path in given]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    sources = [source for source in manifest.sources if source.split == split]
    if not sources:
        raise InputError(f"{shard}: cannot be rebuilt, its rows do not come from plain CSVs of numbers; convert again")
    for source in sources:
        if not paths:
            raise InputError(
                f"{shard}: can only be rebuilt from {source.name}; give it as --from {split}={source.name}"
            )
        # By size and name first: hashing every candidate would read each of them once per source.
        fitting = [path for path in paths if path.stat().st_size == source.num_bytes]
        if not fitting:
            raise _wrong_file(paths[0], source)
        path = next((path for path in fitting if path.name == source.name), fitting[0])
        paths.remove(path)
        options = ReadOptions(
            has_header=source.has_header,
            label_column=source.label_column or NONE,
            id_column=source.id_column or NONE,
        )
        files.append(CsvFile(path, options))
    return files


def _run_tasks(
    manifest: Manifest, corrupt: Sequence[str], inputs: Mapping[str, Sequence[CsvFile]], scratch: pathlib.Path
) -> None:
    labels = _class_labels(manifest)
    # As planned then: today's default size of a shard may cut the rows elsewhere.
    rules = Rules(
        manifest.name,
        manifest.image_shape,
        manifest.planned_shards,
        manifest.validation,
        lambda _: (labels, manifest.class_names),
    )
    hashes = {shard.name: shard.sha256 for shard in manifest.all_shards}
    with make_workers(inputs, None) as workers:
        plan = make_plan(inputs, rules, workers)
        converted = [source for split in inputs for source in manifest.sources if source.split == split]
        for file, source, planned in zip(itertools.chain(*inputs.values()), converted, plan.sources, strict=True):
            if (source.sha256, source.num_rows) != (planned.sha256, planned.num_rows):
                raise _wrong_file(file.path, source)
        tasks = [
            task
            for task in plan.tasks
            if any(name in corrupt for shards in task.outputs.values() for name, _ in shards)
        ]
        results = list(run_tasks(tasks, scratch, workers))
    rebuilt = {shard.name: shard.sha256 for result in results for shard in result.all_shards}
    for name in corrupt:
        if rebuilt.get(name) != hashes[name]:
            raise InputError(f"{name}: its CSVs give other records than were written; convert again")


def _wrong_file(path: pathlib.Path, source: Source) -> InputError:
    return InputError(
        f"{path}: not the {source.name} that was converted (other size or content); get that file, or convert again"
    )


def _class_labels(manifest: Manifest) -> tuple[int, ...]:
    if not all(
        name.isascii() and name.isdigit() and len(name) <= 19 and int(name) <= MAX_INTEGER
        for name in manifest.class_names
    ):
        raise InputError(f"{manifest.name}: its class names are not labels of a CSV, so it cannot be rebuilt")
    return tuple(map(int, manifest.class_names))


@contextlib.contextmanager
def _scratch(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory on the same disk, empty even if a repair was killed before."""
    scratch = target.with_name(f".{target.name}.repair")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
