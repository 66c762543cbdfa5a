"""How much memory streaming takes, on made-up shards: the peak of a process that does nothing else."""

import contextlib
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from pipeline.convert.shard_writer import SplitWriter, deal_rows, encode_by_shard
from pipeline.errors import InputError
from pipeline.feed.plan import size_text
from pipeline.format.manifest import FILE_NAME, Manifest, Split, Validation, load_manifest
from pipeline.format.records import RecordLayout

if TYPE_CHECKING:
    from pipeline.benchmark.results import Results

IMAGE_SHAPE, CLASSES = (28, 28, 1), 10

_SHARDS = 16
_CHUNK_ROWS = 1 << 16  # rows made at once
_WINDOWS = 16  # streamed: more than are ever in memory together
_TRAIN = "train"
_MEBIBYTE = 2**20


def measure_stream_memory(
    rows: int,
    memory_budget: int,
    directory: str | os.PathLike | None = None,
    batch_size: int = 2048,
    steps_per_call: int = 16,
) -> "Results":
    """Write `rows` rows of 28x28 as shards, stream some windows of them in a process of its own, and remove them.

    Args:
        memory_budget: as of training, bytes.
        directory: where to put the shards for that time, such as a disk with room; None is the system's temporary one.

    Raises:
        InputError: there is no such directory, or not enough room on its disk.
    """
    with _shards(rows, directory) as data, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_stream, data, memory_budget, batch_size, steps_per_call).result()


@contextlib.contextmanager
def _shards(rows: int, directory: str | os.PathLike | None) -> Iterator[str]:
    parent = pathlib.Path(directory or tempfile.gettempdir())
    if not parent.is_dir():
        raise InputError(f"--dir {parent}: there is no such directory")
    needed, free = rows * RecordLayout(int(np.prod(IMAGE_SHAPE))).stride, shutil.disk_usage(parent).free
    if needed > free:
        raise InputError(f"--dir {parent}: {needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free; use another disk")
    with tempfile.TemporaryDirectory(prefix="stream-memory-", dir=parent) as made:
        write_shards(pathlib.Path(made), rows)
        yield made


def write_shards(directory: pathlib.Path, rows: int) -> None:
    """A data set of `rows` rows of noise: valid records, written as fast as the encoder goes."""
    layout = RecordLayout(int(np.prod(IMAGE_SHAPE)))
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (min(rows, _CHUNK_ROWS), layout.image_bytes), np.uint8)
    writer = SplitWriter(directory, _TRAIN, _SHARDS)
    with contextlib.closing(writer):
        for first in range(0, rows, _CHUNK_ROWS):
            ids = np.arange(first, min(first + _CHUNK_ROWS, rows))
            deal = deal_rows(first, len(ids), _SHARDS)
            everything = np.arange(len(ids))
            records = encode_by_shard(layout, images[: len(ids)], ids % CLASSES, ids, everything, deal)
            writer.append(records, deal)
        shards = writer.finish("noise", layout.stride)
        writer.publish(shards)
    counts = np.bincount(np.arange(rows) % CLASSES, minlength=CLASSES)
    manifest = Manifest(
        name="noise",
        image_shape=IMAGE_SHAPE,
        class_names=tuple(map(str, range(CLASSES))),
        splits={_TRAIN: Split(_TRAIN, rows, tuple(counts.tolist()), shards)},
        sources=(),
        validation=Validation(),
        pixel_mean=(127.5,),
        pixel_std=(73.9,),
        stride=layout.stride,
    )
    (directory / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")


def _stream(data: str, memory_budget: int, batch_size: int, steps_per_call: int) -> "Results":
    """Runs in a process of its own, whose peak this is."""
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    from pipeline.benchmark.machine import describe_machine
    from pipeline.benchmark.results import Results
    from pipeline.feed.dataset import Position, make_stream_dataset
    from pipeline.feed.order import Steps
    from pipeline.feed.stream import ShardReader
    from pipeline.train.devices import make_devices
    from pipeline.train.prefetch import prefetch_to_devices

    devices, before = make_devices("one", 1), memory_of_process("VmRSS")
    reader = ShardReader(data, load_manifest(data), _TRAIN)
    steps = Steps(reader.num_examples, batch_size, steps_per_call)
    window_rows = reader.page_order(memory_budget, batch_size * steps_per_call).window_rows
    dataset = make_stream_dataset(reader, memory_budget, steps, 0, Position(0, 0, sys.maxsize), devices.replicas)
    wanted, streamed = min(_WINDOWS * window_rows, reader.num_examples), 0
    elements = prefetch_to_devices(dataset, devices)
    while streamed < wanted:
        streamed += int(sum(next(elements)[1].numpy()))
    elements.close()
    peak = memory_of_process("VmHWM")
    taken = peak - before
    return Results(
        "memory",
        (),
        {**describe_machine(), "batch_size": batch_size, "steps_per_call": steps_per_call, "scale": "device"},
        figures={
            "rows": reader.num_examples,
            "rows streamed": streamed,
            "rows a window": window_rows,
            "memory budget, MiB": memory_budget / _MEBIBYTE,
            "after importing TensorFlow, MiB": before / _MEBIBYTE,
            "peak, MiB": peak / _MEBIBYTE,
            "peak over import and budget, MiB": (taken - memory_budget) / _MEBIBYTE,
        },
        verdict=f"streaming took {size_text(taken)} with a budget of {size_text(memory_budget)}",
    )


def memory_of_process(field: str) -> int:
    """A field of this process's status in bytes: VmRSS is what it holds now, VmHWM the most that it held (Linux)."""
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
