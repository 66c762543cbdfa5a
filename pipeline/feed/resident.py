"""A whole split in memory: one uint8 matrix, in the order of the CSV."""

import dataclasses
import pathlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.convert.manifest import Manifest, Shard
from pipeline.convert.schema import UNLABELLED
from pipeline.errors import InputError

_READ_BYTES = 1 << 20  # at a time, so that a block is decoded while it is in cache
_ALIGNMENT = 64  # TensorFlow takes a NumPy buffer without copying it only when aligned (EIGEN_MAX_ALIGN_BYTES)


@dataclasses.dataclass(frozen=True)
class SplitArrays:
    """images uint8 [n, H*W*C], labels int32 [n] (-1 where there is none), ids int64 [n]; row i is the CSV's i-th."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load_split(directory: str | pathlib.Path, manifest: Manifest, split_name: str) -> SplitArrays:
    """Read every shard of a split.

    Raises:
        InputError: the split or a shard is missing, or a shard has not the size that the manifest states.
    """
    split = manifest.split(split_name)
    count, pixels = split.num_examples, manifest.layout.image_bytes
    arrays = SplitArrays(aligned_matrix((count, pixels)), np.empty(count, np.int32), np.empty(count, np.int64))
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_load_shard, pathlib.Path(directory), manifest, shard, place, len(split.shards), arrays)
            for place, shard in enumerate(split.shards)
        ]
        for job in jobs:
            job.result()
    return arrays


def check_shard(directory: pathlib.Path, manifest: Manifest, shard: Shard) -> pathlib.Path:
    """The path of a shard whose size is as stated, or InputError with what to do."""
    path = directory / shard.name
    mend = f"inspect with tools/inspect_tfrecord.py verify {directory}, or convert again"
    if not path.is_file():
        raise InputError(f"{path}: missing, though the manifest names it; {mend}")
    expected, found = shard.num_examples * manifest.stride, path.stat().st_size
    if found != expected or shard.num_bytes != expected:
        raise InputError(f"{path}: {found} bytes, expected {expected} ({shard.num_examples} records); {mend}")
    return path


def decode_records(path: pathlib.Path, manifest: Manifest, records: np.ndarray, first_record: int):
    """Images, labels and ids of a block of records, as `RecordLayout.decode` gives them.

    Raises:
        InputError: a record has not the frame and keys that we write, or a label of no class. (That every pixel is as
            written is what `verify` proves, by the CRCs.)
    """
    layout = manifest.layout
    images, labels, ids = layout.decode(records)
    head = slice(0, layout.slices["id"].start)  # frame and keys; the same for every record
    wrong = (records[:, head] != layout.template[head]).any(axis=1)
    wrong |= (labels < UNLABELLED) | (labels >= manifest.num_classes)
    if wrong.any():
        record = first_record + int(wrong.argmax())
        raise InputError(f"{path}: record {record} is damaged; run tools/inspect_tfrecord.py verify {path.parent}")
    return images, labels, ids


def _load_shard(directory, manifest, shard, place, num_shards, arrays) -> None:
    path = check_shard(directory, manifest, shard)
    with path.open("rb") as file:
        step = max(1, _READ_BYTES // manifest.stride)
        for first in range(0, shard.num_examples, step):
            rows = min(step, shard.num_examples - first)
            block = np.fromfile(file, np.uint8, rows * manifest.stride).reshape(rows, manifest.stride)
            target = slice(place + first * num_shards, place + (first + rows - 1) * num_shards + 1, num_shards)
            arrays.images[target], arrays.labels[target], arrays.ids[target] = decode_records(
                path, manifest, block, first
            )


def aligned_matrix(shape: tuple[int, int]) -> np.ndarray:
    """An uninitialised uint8 matrix that TensorFlow can take without copying it."""
    size = shape[0] * shape[1]
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + size].reshape(shape)
