"""How long a first batch takes, in a fresh process each time, beside importing TensorFlow there."""

import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor


@dataclasses.dataclass(frozen=True)
class FirstBatch:
    """Seconds of one process: importing TensorFlow, and from opening the data set to the first element of the feed."""

    importing: float
    first: float


def measure_first_batch(
    directory: str | os.PathLike, batch_size: int, steps_per_call: int, rounds: int
) -> list[FirstBatch]:
    """Start the host feed of the training split anew, `rounds` times; the shards are in the page cache from the first.

    The processes see no GPU, whose start is no part of it.
    """
    found = []
    for _ in range(rounds):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(_start, os.fspath(directory), batch_size, steps_per_call).result())
    return found


def figures_of(found: Sequence[FirstBatch]) -> dict[str, float]:
    """Medians, as the figures of a benchmark."""
    return {
        "first batch, seconds": statistics.median(one.first for one in found),
        "import tensorflow, seconds": statistics.median(one.importing for one in found),
        "first batch / import": statistics.median(one.first / one.importing for one in found),
    }


def _start(directory: str, batch_size: int, steps_per_call: int) -> FirstBatch:
    """Runs in a process of its own, in which nothing is imported yet."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    started = time.perf_counter()
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    imported = time.perf_counter()
    from pipeline.feed.dataset import Position, Replicas, make_resident_dataset
    from pipeline.feed.order import Steps
    from pipeline.feed.resident import load_split
    from pipeline.format.manifest import load_manifest

    begun = time.perf_counter()
    manifest = load_manifest(directory)
    arrays = load_split(directory, manifest, "train")
    steps = Steps(len(arrays), batch_size).in_even_calls(steps_per_call)
    next(iter(make_resident_dataset(arrays, steps, 0, Position(0, 0, 1), Replicas())))
    return FirstBatch(imported - started, time.perf_counter() - begun)
