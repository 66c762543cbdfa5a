"""CSV files to a data set: shards, manifest and TFDS metadata, by running the tasks of a plan.

Small files are converted in this process, whose threads parse and encode ahead of the writer; large ones by processes,
a task each. Both write the same bytes. Rerunning an interrupted conversion runs the tasks that are missing.
"""

import collections
import contextlib
import functools
import operator
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from pipeline.convert.config import BEAM, ConvertConfig
from pipeline.convert.ids import check_ids, write_text_ids
from pipeline.convert.inputs import OnNotice, open_inputs
from pipeline.convert.output import MARK, check_space, new_directory
from pipeline.convert.pixel_stats import PixelStats
from pipeline.convert.plan import Plan, Rules, make_plan
from pipeline.convert.source import SourceFile
from pipeline.convert.task import TaskResult, load_result, result_path, run_tasks
from pipeline.convert.workers import Workers, available_cores
from pipeline.errors import pluralize
from pipeline.files import remove
from pipeline.format.manifest import FILE_NAME, Manifest, Split
from pipeline.format.tfds_metadata import metadata_files
from pipeline.remote import is_remote
from pipeline.splits import TRAIN

OnProgress = Callable[[int, int], None]  # rows done, rows in all
OnWritten = Callable[[pathlib.Path, Manifest], None]
MakePool = Callable[[pathlib.Path], Workers]  # given the directory that is filled

_SMALL_BYTES = 256 << 20  # of text: about a second's work, of which starting processes would be a third
_DIM = 127  # a largest pixel of at most this is rather white in another range
_MAX_THREADS = 2  # more of them contend for the GIL


def convert(
    config: ConvertConfig,
    on_progress: OnProgress | None = None,
    on_notice: OnNotice | None = None,
    on_written: OnWritten | None = None,
) -> Manifest:
    """Convert files into `config.out` and return its manifest.

    The directory appears when everything in it is complete and on the disk, or not at all. `on_written` is called with
    the unpublished directory and its manifest; if it raises InputError, nothing is published.

    Raises:
        InputError: anything wrong with the files or with the output directory, or a full disk; the message names the
            place.
        TryAgainError: a worker process was killed; the next call resumes.
    """
    inputs = open_inputs(config, on_notice)
    shape, reading = inputs.image_shape, config.read.reading
    rules = Rules(config.name, shape, config.shards, config.validation(inputs.files), inputs.classes, reading)
    workers: int | MakePool | None = config.workers
    if config.runner == BEAM:
        from pipeline.convert.beam import BeamWorkers

        workers = functools.partial(BeamWorkers, arguments=config.beam_args, on_notice=on_notice)
    return write_dataset(inputs.files, rules, config.out, config.overwrite, workers, on_progress, on_notice, on_written)


def write_dataset(
    inputs: Mapping[str, Sequence[SourceFile]],
    rules: Rules,
    out: str | os.PathLike,
    overwrite: bool = False,
    workers: int | MakePool | None = None,
    on_progress: OnProgress | None = None,
    on_notice: OnNotice | None = None,
    on_written: OnWritten | None = None,
) -> Manifest:
    """Write the files of each split as a data set; see `convert`. `workers`: of this machine, or what makes others."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(new_directory(out, overwrite))
        pool = stack.enter_context(workers(directory) if callable(workers) else make_workers(inputs, workers))
        plan = make_plan(inputs, rules, pool)
        finished = _load_results(plan, directory, pool)
        left = {path.name for path in directory.iterdir()} - {MARK}
        # With a manifest, a stored directory holds the data set to replace, not an interrupted conversion.
        resumed = left and not (is_remote(directory) and FILE_NAME in left)
        if resumed and on_notice is not None:
            done = f"{len(finished)} of {pluralize(len(plan.tasks), 'task')} done"
            on_notice(f"resuming an interrupted conversion of {out}: {done}" if finished else f"restarting {out}")
        _remove_others(directory, finished)
        check_space(out, directory, plan.num_rows * rules.layout.stride)
        text_ids = write_text_ids(plan, inputs, directory)
        results = _run(plan, directory, pool, finished, on_progress)
        # Incomplete shards, of workers that Beam replaced; a store has only complete ones.
        for path in [] if is_remote(directory) else directory.glob(".*"):
            remove(path)
        check_ids(plan, inputs, results, directory)
        stats = _stats(plan, results)
        if 0 < stats.largest <= _DIM and on_notice is not None:
            low, high = getattr(rules.reading, "pixel_range", None) or (0, 255)
            white = f"{low:g} {low + (high - low) * stats.largest / 255:.4g}"
            on_notice(
                f"the largest pixel is {stats.largest}, far below 255; if white is that, convert again with "
                f"--pixel-range {white} --overwrite"
            )
        manifest = _make_manifest(plan, results, stats, text_ids)
        if on_written is not None:
            on_written(directory, manifest)
        # The manifest last: in an object store it makes the rest a data set.
        for name, text in {**metadata_files(manifest), FILE_NAME: manifest.to_json()}.items():
            (directory / name).write_bytes(text.encode())
        for task in plan.tasks:  # the results served resuming, and are not part of a data set
            result_path(task.index, directory).unlink(missing_ok=True)
    return manifest


def make_workers(inputs: Mapping[str, Sequence[SourceFile]], workers: int | None) -> Workers:
    """Threads of this process for small files or a single task, processes for large ones; None: by the cores."""
    files = [file for group in inputs.values() for file in group]
    large = sum(file.num_bytes for file in files) >= _SMALL_BYTES and (len(files) > 1 or files[0].seekable)
    count = workers if workers is not None else available_cores()
    return Workers(count if large else min(count, _MAX_THREADS), processes=large)


def _load_results(plan: Plan, directory: pathlib.Path, workers: Workers) -> dict[int, TaskResult]:
    """Task -> result, of those that an interrupted conversion finished."""
    tasks = [task for task in plan.tasks if result_path(task.index, directory).exists()]
    results = workers.ahead(functools.partial(load_result, directory=directory), tasks)
    return {task.index: result for task, result in zip(tasks, results, strict=True) if result is not None}


def _remove_others(directory: pathlib.Path, results: Mapping[int, TaskResult]) -> None:
    """Remove everything except the shards and results of finished tasks."""
    names = {shard.name for result in results.values() for shard in result.all_shards}
    names |= {result_path(index, directory).name for index in results} | {MARK}
    # The manifest of an old data set first: without it the rest is not a data set.
    for path in sorted(directory.iterdir(), key=lambda path: path.name != FILE_NAME):
        if path.name not in names:
            path.unlink() if is_remote(path) else remove(path)


def _run(
    plan: Plan,
    directory: pathlib.Path,
    workers: Workers,
    finished: Mapping[int, TaskResult],
    on_progress: OnProgress | None,
) -> list[TaskResult]:
    """The results of all tasks; those that are finished are not run again."""
    left = [task for task in plan.tasks if task.index not in finished]
    done = plan.num_rows - sum(task.num_rows for task in left)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if on_progress is not None:
            on_progress(done, plan.num_rows)

    results = run_tasks(left, directory, workers, advance)
    return [finished[task.index] if task.index in finished else next(results) for task in plan.tasks]


def _stats(plan: Plan, results: Sequence[TaskResult]) -> PixelStats:
    """Of the split that training normalizes by, so they do not depend on other splits."""
    splits = [task.split for task in plan.tasks]
    described = TRAIN if TRAIN in splits else splits[0]
    return functools.reduce(
        operator.add, [result.stats for split, result in zip(splits, results, strict=True) if split == described]
    )


def _make_manifest(
    plan: Plan, results: Sequence[TaskResult], stats: PixelStats, text_ids: Mapping[str, str]
) -> Manifest:
    shards: dict[str, list] = collections.defaultdict(list)
    for result in results:
        for name, own_shards in result.shards.items():
            shards[name] += own_shards
    splits = {
        name: Split(name, sum(shard.num_examples for shard in of_split), plan.class_counts[name], tuple(of_split))
        for name, of_split in shards.items()
    }
    return Manifest(
        name=plan.rules.dataset,
        image_shape=plan.rules.image_shape,
        class_names=plan.class_names,
        splits=splits,
        sources=plan.sources,
        validation=plan.rules.validation,
        pixel_mean=stats.mean,
        pixel_std=stats.std,
        stride=plan.rules.layout.stride,
        planned_shards=plan.planned_shards,
        text_ids=dict(text_ids) or msgspec.UNSET,
        reading=plan.rules.reading,
    )
