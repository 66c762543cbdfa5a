"""Options of a conversion, checked before anything is read."""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Collection, Sequence

from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_SHARDS, SPLIT_NAME, Validation
from pipeline.remote import as_path, is_remote
from pipeline.splits import TRAIN, VAL, ValidationSampler, stored_name

_MAX_NAME_BYTES = 200  # data set and split, of the 255 bytes of a file name; the rest of a shard's name takes 32
_RESERVED = ("all",)  # TensorFlow Datasets: all splits together
MAX_SEED = 2**63 - 1
_MAX_WORKERS = 256
LOCAL, BEAM = RUNNERS = ("local", "beam")


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Options of a conversion; tools/csv_to_tfrecord.py explains them.

    Args:
        splits: (name, file) pairs; files of one name follow one another. The name is "" if `split_column` decides.
        out: the directory to create; its base name becomes the data set's name.
        val_fraction: the share of `train` that becomes the split `val`; 0 for none.
        val_group_size: keep groups of that many consecutive rows together.
        read: how files are read.
        labels: (name of a split, file of its labels) pairs, as many as the split has files.
        split_column: the column that names each row's split, by name or 0-based index.
        split_map: (value of that column, split) pairs beyond the usual names; the split "none" ignores the rows.
        shards: files per split; None makes them about 128 MiB each.
        runner: "local", or "beam" for Apache Beam with its options `beam_args`.
        workers: cores to use; None is all of them, for small files two threads.

    Raises:
        InputError: a field is out of range, or two exclude each other.
    """

    splits: Sequence[tuple[str, pathlib.Path]]
    out: pathlib.Path
    read: ReadOptions = ReadOptions()
    labels: Sequence[tuple[str, pathlib.Path]] = ()
    split_column: str | None = None
    split_map: Sequence[tuple[str, str]] = ()
    shards: int | None = None
    workers: int | None = None
    seed: int = 0
    val_fraction: float = 0.0
    val_group_size: int | None = None
    overwrite: bool = False
    runner: str = LOCAL
    beam_args: str = ""

    def __post_init__(self) -> None:
        if not self.splits:
            raise InputError("no split given; name at least one CSV, as --split train=train.csv")
        for name in (*self.split_names, *(name for _, name in self.split_map)):
            if (name or self.split_column is None) and (not SPLIT_NAME.fullmatch(name) or name in _RESERVED):
                raise InputError(f"split name {name!r}: use letters, digits and _, a letter first, and not 'all'")
        check_range("--shards", self.shards, MAX_SHARDS)
        check_range("--workers", self.workers, _MAX_WORKERS)
        check_range("--seed", self.seed, MAX_SEED, least=0)
        self._check_runner()
        if self.split_map and self.split_column is None:
            raise InputError("--split-map needs --split-column")
        for name, path in self.labels:
            if stored_name(name) not in self.split_names:
                raise InputError(f"--labels {name}={path}: no --split {name}=FILE is given")
        self._check_validation()
        if not self.name:  # "/", or a name without a single letter or digit
            raise InputError(f"--out {str(self.out)!r}: the directory needs a name")
        longest = max(map(len, self.split_names)) + len(self.name)
        if longest > _MAX_NAME_BYTES:
            raise InputError(f"--out and a split's name have {longest} characters; file names allow {_MAX_NAME_BYTES}")

    def _check_runner(self) -> None:
        if self.runner not in RUNNERS:
            raise InputError(f"--runner {self.runner!r} must be {' or '.join(RUNNERS)}")
        if self.runner == BEAM and self.workers is not None:
            raise InputError("--workers is for this machine; give Beam's own option in --beam-args")
        if self.beam_args and self.runner != BEAM:
            raise InputError("--beam-args needs --runner beam")

    def _check_validation(self) -> None:
        if not self.val_fraction:
            if self.val_group_size is not None:
                raise InputError("--val-group-size needs --val-fraction")
            return
        check_range("--val-group-size", self.val_group_size, MAX_SEED)
        if not math.isfinite(self.val_fraction) or not 0 < self.val_fraction < 1:
            raise InputError(f"--val-fraction {self.val_fraction} must lie between 0 and 1")
        if self.split_column is None:
            self.check_drawn(self.split_names)
        ValidationSampler(self.val_fraction, self.seed, self.val_group_size)  # checks its own arguments

    def check_drawn(self, split_names: Collection[str]) -> None:
        """Raise InputError if a validation split cannot be drawn from splits of these names."""
        if VAL in split_names:
            raise InputError("--val-fraction makes the split 'val', but --split gives one; drop either")
        if TRAIN not in split_names:
            raise InputError("--val-fraction takes rows out of 'train', but no --split train=FILE is given")

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits to read as they are stored, in the order given."""
        return tuple(dict.fromkeys(stored_name(name) for name, _ in self.splits))

    @property
    def name(self) -> str:
        """The data set's name, `dataset_name` of `out`."""
        return dataset_name(self.out)

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
    base = (as_path(out) if is_remote(out) else pathlib.Path.cwd().joinpath(out)).name.lower()
    cleaned = re.sub("[^a-z0-9_]+", "_", base)
    return f"data_{cleaned}" if cleaned and not cleaned[0].isalpha() else cleaned
