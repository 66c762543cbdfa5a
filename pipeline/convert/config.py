"""Options of a conversion, checked before anything is read."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Sequence

from pipeline.convert.csv_reader import BLOCK_BYTES, ReadOptions
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_SHARDS, SPLIT_NAME, Validation
from pipeline.splits import TRAIN, VAL, ValidationSampler

_MAX_NAME_BYTES = (
    200  # data set and split together, of the 255 bytes of a file name; the rest of a shard's name takes 32
)
_RESERVED = ("all",)  # TensorFlow Datasets: all splits together
MAX_SEED = 2**63 - 1
_MAX_WORKERS = 256


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Options of a conversion; tools/csv_to_tfrecord.py explains them.

    Args:
        splits: (name, CSV file) pairs; files of one name follow one another.
        out: the directory to create; its base name becomes the data set's name.
        val_fraction: the share of `train` that becomes the split `val`; 0 for none.
        val_group_size: keep groups of that many consecutive rows together.
        image_shape: (height, width, channels), or None for a square of one channel.
        label_column, id_column: a name, a 0-based index, "none", or None to find it by its usual names.
        shards: files per split; None makes them about 128 MiB each.
        workers: cores to use; None is all of them, for small files two threads.
        block_bytes: text read at a time; it changes nothing in the result.

    Raises:
        InputError: a field is out of range, or two exclude each other.
    """

    splits: Sequence[tuple[str, str | os.PathLike]]
    out: str | os.PathLike
    shards: int | None = None
    workers: int | None = None
    seed: int = 0
    val_fraction: float = 0.0
    val_group_size: int | None = None
    image_shape: tuple[int, int, int] | None = None
    has_header: bool = True
    label_column: str | None = None
    id_column: str | None = None
    overwrite: bool = False
    block_bytes: int = BLOCK_BYTES

    def __post_init__(self) -> None:
        if not self.splits:
            raise InputError("no split given; name at least one CSV, as --split train=train.csv")
        for name in self.split_names:
            if not SPLIT_NAME.fullmatch(name) or name in _RESERVED:
                raise InputError(f"split name {name!r}: use letters, digits and _, a letter first, and not 'all'")
        check_range("--shards", self.shards, MAX_SHARDS)
        check_range("--workers", self.workers, _MAX_WORKERS)
        check_range("--seed", self.seed, MAX_SEED, least=0)
        if self.image_shape is not None and (len(self.image_shape) != 3 or min(self.image_shape) < 1):
            raise InputError(f"--image-shape {' '.join(map(str, self.image_shape))} must be three positive integers")
        self._check_validation()
        if not self.name:  # "/", or a name without a single letter or digit
            raise InputError(f"--out {str(self.out)!r}: the directory needs a name")
        longest = max(map(len, self.split_names)) + len(self.name)
        if longest > _MAX_NAME_BYTES:
            raise InputError(f"--out and a split's name have {longest} characters; file names allow {_MAX_NAME_BYTES}")

    def _check_validation(self) -> None:
        if not self.val_fraction:
            if self.val_group_size is not None:
                raise InputError("--val-group-size needs --val-fraction")
            return
        check_range("--val-group-size", self.val_group_size, MAX_SEED)
        if not math.isfinite(self.val_fraction) or not 0 < self.val_fraction < 1:
            raise InputError(f"--val-fraction {self.val_fraction} must lie between 0 and 1")
        if VAL in self.split_names:
            raise InputError("--val-fraction makes the split 'val', but --split gives one; drop either")
        if TRAIN not in self.split_names:
            raise InputError("--val-fraction takes rows out of 'train', but no --split train=FILE is given")
        ValidationSampler(self.val_fraction, self.seed, self.val_group_size)  # checks its own arguments

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits to read, in the order given."""
        return tuple(dict.fromkeys(name for name, _ in self.splits))

    @property
    def name(self) -> str:
        """The data set's name, `dataset_name` of `out`."""
        return dataset_name(self.out)

    @property
    def read_options(self) -> ReadOptions:
        return ReadOptions(self.has_header, self.label_column, self.id_column, self.block_bytes)

    @property
    def validation(self) -> Validation:
        """The rule by which rows move from `train` to `val`."""
        if not self.val_fraction:
            return Validation()
        return Validation(self.val_fraction, self.val_group_size, TRAIN, self.seed)


def check_range(option: str, value: int | None, most: int, least: int = 1) -> None:
    """Raise InputError unless a value is None or within its bounds."""
    if value is not None and not least <= value <= most:
        raise InputError(f"{option} {value} must be {least} to {most:,}")


def dataset_name(out: str | os.PathLike) -> str:
    """The base name of a directory in the letters that TensorFlow Datasets allows."""
    base = pathlib.Path.cwd().joinpath(out).name.lower()
    cleaned = re.sub("[^a-z0-9_]+", "_", base)
    return f"data_{cleaned}" if cleaned and not cleaned[0].isalpha() else cleaned
