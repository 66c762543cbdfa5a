"""CSV files to a data set: shards, manifest and TFDS metadata, by running the tasks of a plan.

Small files are converted in this process, whose threads parse and encode ahead of the writer; large ones by processes,
a task each. Both write the same bytes. Rerunning an interrupted conversion runs the tasks that are missing.
"""

import collections
import functools
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.convert.columns import infer_image_shape
from pipeline.convert.config import ConvertConfig
from pipeline.convert.inputs import open_inputs
from pipeline.convert.output import check_space, new_directory
from pipeline.convert.plan import Plan, Rules, make_plan
from pipeline.convert.source import SourceFile
from pipeline.convert.task import TaskResult, load_result, result_path, run_task
from pipeline.convert.workers import Workers, available_cores
from pipeline.errors import InputError, pluralize
from pipeline.files import write_text
from pipeline.format.manifest import FILE_NAME, Manifest, Split, Validation
from pipeline.format.tfds_metadata import metadata_files
from pipeline.splits import TRAIN

__all__ = ["ConvertConfig", "convert", "write_dataset"]

OnProgress = Callable[[int, int], None]  # rows done, rows in all
OnNotice = Callable[[str], None]

_SMALL_BYTES = 256 << 20  # of text: about a second's work, of which starting processes would be a third
_MAX_THREADS = 2  # more of them contend for the GIL


def convert(
    config: ConvertConfig, on_progress: OnProgress | None = None, on_notice: OnNotice | None = None
) -> Manifest:
    """Convert CSVs into `config.out` and return its manifest.

    The directory appears when everything in it is complete and on the disk, or not at all.

    Raises:
        InputError: anything wrong with the files or with the output directory, or a full disk; the message names the
            place.
    """
    inputs = open_inputs(config)
    first = next(iter(inputs.values()))[0]
    rules = Rules(
        dataset=config.name,
        image_shape=infer_image_shape(first.first_line, first.columns.num_pixels, config.image_shape),
        shards=config.shards,
        validation=config.validation,
    )
    return write_dataset(inputs, rules, config.out, config.overwrite, config.workers, on_progress, on_notice)


def write_dataset(
    inputs: Mapping[str, Sequence[SourceFile]],
    rules: Rules,
    out: Any,
    overwrite: bool = False,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
    on_notice: OnNotice | None = None,
) -> Manifest:
    """Write the files of each split as a data set; see `convert`."""
    with new_directory(out, overwrite) as directory, make_workers(inputs, workers) as pool:
        plan = make_plan(inputs, rules, pool)
        results = _run(plan, directory, pool, out, on_progress, on_notice)
        _check_ids(plan, results, directory)
        manifest = _make_manifest(plan, results)
        for name, text in {**metadata_files(manifest), FILE_NAME: manifest.to_json()}.items():
            write_text(directory / name, text)
        for task in plan.tasks:
            result_path(task, directory).unlink()
    return manifest


def make_workers(inputs: Mapping[str, Sequence[SourceFile]], workers: int | None) -> Workers:
    """Threads of this process for small files, processes for large ones; None: by the cores."""
    small = sum(file.num_bytes for group in inputs.values() for file in group) < _SMALL_BYTES
    count = workers if workers is not None else available_cores()
    return Workers(min(count, _MAX_THREADS) if small else count, processes=not small)


def _run(
    plan: Plan,
    directory: pathlib.Path,
    workers: Workers,
    out: Any,
    on_progress: OnProgress | None,
    on_notice: OnNotice | None,
) -> list[TaskResult]:
    """The results of all tasks; those that an interrupted conversion finished are not run again."""
    results = {task.index: result for task in plan.tasks if (result := load_result(task, directory)) is not None}
    if any(directory.iterdir()) and on_notice is not None:
        finished = f"{len(results)} of {pluralize(len(plan.tasks), 'task')} done"
        on_notice(f"resuming an interrupted conversion of {out}: {finished}" if results else f"restarting {out}")
    _remove_others(directory, results)
    stride = plan.rules.layout.stride
    check_space(out, directory, plan.num_rows * stride)
    done = sum(task.num_rows for task in plan.tasks if task.index in results)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if on_progress is not None:
            on_progress(done, plan.num_rows)

    left = [task for task in plan.tasks if task.index not in results]
    if workers.processes:
        for task, result in zip(
            left, workers.ahead(functools.partial(run_task, directory=directory), left), strict=True
        ):
            results[task.index] = result
            advance(task.num_rows)
    else:
        for task in left:
            results[task.index] = run_task(task, directory, workers.ahead, advance)
    return [results[task.index] for task in plan.tasks]


def _remove_others(directory: pathlib.Path, results: Mapping[int, TaskResult]) -> None:
    """Remove everything except the shards and records of finished tasks."""
    names = {shard.name for result in results.values() for shards in result.shards.values() for shard in shards}
    names |= {f"task-{index:05d}.json" for index in results}
    for path in directory.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _check_ids(plan: Plan, results: Sequence[TaskResult], directory: pathlib.Path) -> None:
    """Refuse an id that occurs twice in an input split."""
    for split in {task.split for task in plan.tasks}:
        pairs = [(task, result) for task, result in zip(plan.tasks, results, strict=True) if task.split == split]
        ranges = [result.ids for _, result in pairs]
        if functools.reduce(lambda before, after: before + after, ranges).increasing:
            continue
        shards = [shard for _, result in pairs for of in result.shards.values() for shard in of]
        ids = [_read_ids(plan, directory / shard.name) for shard in shards]
        values, counts = np.unique(np.concatenate(ids), return_counts=True)
        if (counts > 1).any():
            raise _duplicate_error(plan, split, set(values[counts > 1].tolist()))


def _read_ids(plan: Plan, path: pathlib.Path) -> np.ndarray:
    layout = plan.rules.layout
    return layout.decode(np.memmap(path, np.uint8, "r").reshape(-1, layout.stride))[2]


def _duplicate_error(plan: Plan, split: str, values: set[int]) -> InputError:
    """The error for the first row whose id, one of `values`, an earlier row has."""
    places: dict[int, str] = {}
    for segment in (segment for task in plan.tasks if task.split == split for segment in task.segments):
        for block in segment.file.read(segment.start, segment.stop):
            ids = segment.file.parse(block).ids
            for row, value in enumerate([] if ids is None else ids.tolist()):
                if value not in values:
                    continue
                place = segment.file.place_of(block, row)
                if value in places:
                    return InputError(f"{place}: id {value} is a duplicate, also used on {places[value]}")
                places[value] = place
    return InputError(f"{segment.file.path}: the file changed while it was read; convert again")


def _make_manifest(plan: Plan, results: Sequence[TaskResult]) -> Manifest:
    shards: dict[str, list] = collections.defaultdict(list)
    for result in results:
        for name, of in result.shards.items():
            shards[name] += of
    splits = {
        name: Split(name, sum(shard.num_examples for shard in of), plan.class_counts[name], tuple(of))
        for name, of in shards.items()
    }
    described = TRAIN if TRAIN in splits else plan.tasks[0].split
    stats = [result.stats for task, result in zip(plan.tasks, results, strict=True) if task.split == described]
    total = functools.reduce(lambda before, after: before + after, stats)
    return Manifest(
        name=plan.rules.dataset,
        image_shape=plan.rules.image_shape,
        class_names=plan.class_names,
        splits=splits,
        sources=plan.sources,
        validation=plan.rules.validation if plan.rules.validation.fraction else Validation(),
        pixel_mean=total.mean,
        pixel_std=total.std,
        stride=plan.rules.layout.stride,
        planned_shards=plan.planned_shards,
    )
