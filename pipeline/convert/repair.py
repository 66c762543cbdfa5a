"""Restoring a damaged data set byte for byte: the tasks of corrupt shards are run again.

Nothing is trusted: a CSV must have the hash of the one that was converted, and a rebuilt shard the hash of the one that
was written, before it takes the place of a corrupt one.
"""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence

from pipeline.convert.columns import NONE
from pipeline.convert.converter import make_workers
from pipeline.convert.csv_reader import CsvFile, ReadOptions
from pipeline.convert.output import lock_target
from pipeline.convert.plan import Plan, Rules, make_plan
from pipeline.convert.task import run_task
from pipeline.errors import InputError
from pipeline.files import remove_stale, write_text
from pipeline.format.manifest import FILE_NAME, Manifest, Source, read_manifest
from pipeline.format.tfds_metadata import metadata_files
from pipeline.format.verify import Inspection, inspect
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
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    target = pathlib.Path(os.path.realpath(directory))
    with lock_target(target, directory, f"{directory}: another process is writing or repairing it; wait for it"):
        return _repair(directory, given)


def _repair(directory: pathlib.Path, given: Given) -> list[str]:
    manifest, stated_hash = read_manifest(directory)
    if manifest.own_sha256 != stated_hash:
        raise InputError(
            f"{directory / FILE_NAME}: changed since it was written, so no shard can be verified by it; "
            "restore it from a copy, or convert again"
        )
    remove_stale(directory)
    problems = inspect(directory, manifest)
    for name in [*problems.shards, *problems.metadata]:
        if (directory / name).is_dir():
            raise InputError(f"{directory / name}: a directory has the name of a file to repair; move it away")
    moves = _moves(problems)
    corrupt = [name for name in problems.shards if name not in moves.values()]
    plans = _make_plans(manifest, corrupt, given)
    _rename(directory, moves)
    done = [f"{new}: renamed back from {old}" for old, new in moves.items()]
    _rebuild(directory, manifest, corrupt, plans)
    done += [f"{name}: rebuilt" for name in corrupt]
    texts = metadata_files(manifest)
    for name in problems.metadata:
        write_text(directory / name, texts[name])
        done.append(f"{name}: written again")
    left = inspect(directory, manifest)
    for name in [*left.shards, *left.metadata, *left.contents]:
        raise InputError(f"{directory}: still damaged after the repair ({name}); was it changed meanwhile?")
    return done + [f"{name}: not touched, the manifest does not list it; move it away" for name in left.extra]


def _moves(problems: Inspection) -> dict[str, str]:
    """File -> the name that its content belongs under, for shards that only need renaming."""
    moves: dict[str, str] = {}
    for name, file in problems.found_as.items():
        moves.setdefault(file, name)
    return moves


def _rename(directory: pathlib.Path, moves: Mapping[str, str]) -> None:
    # By way of unused names, because two files may have to change places. `inspect` finds them under any name.
    halfway = {f".moving-{secrets.token_hex(4)}.tfrecord": (old, new) for old, new in moves.items()}
    for temporary, (old, _) in halfway.items():
        (directory / old).rename(directory / temporary)
    for temporary, (_, new) in halfway.items():
        (directory / temporary).rename(directory / new)


def _make_plans(manifest: Manifest, corrupt: Sequence[str], given: Given) -> list[Plan]:
    """The conversion's plan for each input split that has a corrupt shard."""
    inputs = {source.split for source in manifest.sources}
    for given_split, path in given:
        if given_split not in inputs:
            known = ", ".join(sorted(inputs)) or "none"
            raise InputError(
                f"--from {given_split}={path}: no CSV of a split {given_split!r} was converted, only of {known}"
            )
    plans: dict[str, Plan] = {}
    for name, split in manifest.splits.items():
        shards = [shard.name for shard in split.shards if shard.name in corrupt]
        source = manifest.validation.source if name == VAL and manifest.validation.fraction else name
        if shards and source not in plans:
            plans[source] = _make_plan(manifest, source, shards[0], given)
    return list(plans.values())


def _make_plan(manifest: Manifest, split: str, shard: str, given: Given) -> Plan:
    sources = [source for source in manifest.sources if source.split == split]
    if not sources:
        raise InputError(f"{shard}: cannot be rebuilt, the data set was not converted from CSVs; create it again")
    files = _open_sources(sources, shard, [pathlib.Path(path) for name, path in given if name == split])
    labels = _class_labels(manifest)
    rules = Rules(
        manifest.name,
        manifest.image_shape,
        manifest.planned_shards,
        manifest.validation,
        lambda _: (labels, manifest.class_names),
    )
    with make_workers({split: files}, None) as workers:
        plan = make_plan({split: files}, rules, workers)
    for file, source, planned in zip(files, sources, plan.sources, strict=True):
        if (source.sha256, source.num_rows) != (planned.sha256, planned.num_rows):
            raise _wrong_file(file.path, source)
    return plan


def _open_sources(sources: Sequence[Source], shard: str, paths: list[pathlib.Path]) -> list[CsvFile]:
    """The files that were converted, in that order; they are recognised by their size, then proven by their hash."""
    files = []
    for source in sources:
        if not paths:
            raise InputError(
                f"{shard}: can only be rebuilt from {source.name}; give it as --from {source.split}={source.name}"
            )
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}: no such file")
        fitting = [path for path in paths if path.stat().st_size == source.num_bytes]
        if not fitting:
            raise _wrong_file(paths[0], source)
        paths.remove(fitting[0])
        options = ReadOptions(source.has_header, source.label_column or NONE, source.id_column or NONE)
        files.append(CsvFile(fitting[0], options))
    return files


def _wrong_file(path: pathlib.Path, source: Source) -> InputError:
    return InputError(
        f"{path}: not the {source.name} that was converted (other size or content); get that file, or convert again"
    )


def _class_labels(manifest: Manifest) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in manifest.class_names)
    except ValueError as error:
        raise InputError(
            f"{manifest.name}: its class names are not labels of a CSV, so it cannot be rebuilt"
        ) from error


def _rebuild(directory: pathlib.Path, manifest: Manifest, names: Sequence[str], plans: Sequence[Plan]) -> None:
    """Run the tasks of these shards; all of them are replaced once all are verified."""
    hashes = {shard.name: shard.sha256 for split in manifest.splits.values() for shard in split.shards}
    with _scratch(directory) as scratch:
        for task in (task for plan in plans for task in plan.tasks):
            outputs = {name for of in task.outputs.values() for name, _ in of}
            if outputs.isdisjoint(names):
                continue
            result = run_task(task, scratch)
            for shard in (shard for of in result.shards.values() for shard in of):
                if shard.name in names and shard.sha256 != hashes[shard.name]:
                    file = task.segments[0].file.path
                    raise InputError(f"{shard.name}: {file} gives other records than were written; convert again")
        for name in names:
            (scratch / name).replace(directory / name)


@contextlib.contextmanager
def _scratch(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory on the same disk, empty even if a repair was killed before."""
    target = pathlib.Path(os.path.realpath(directory))
    scratch = target.with_name(f".{target.name}.repair")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
