"""Options of a conversion, checked before anything is read."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import shlex
from collections.abc import Collection, Sequence

from pipeline.cli import check_settings, setting
from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError, shorten
from pipeline.format.manifest import MAX_SHARDS, SPLIT_NAME, Validation
from pipeline.remote import as_path, is_remote
from pipeline.splits import TRAIN, VAL, ValidationSampler, stored_name

_MAX_NAME_BYTES = 200  # data set and split, of the 255 bytes of a file name; the rest of a shard's name takes 32
_RESERVED = ("all",)  # TensorFlow Datasets: all splits together
_INT64 = 2**63
_MAX_WORKERS = 256
LOCAL, BEAM = RUNNERS = ("local", "beam")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Options of every new data set, whatever it is made of.

    Raises:
        InputError: one is out of range, or two exclude each other.
    """

    val_fraction: float | None = setting(
        None, "share of each class in train to move to the split val", metavar="F", minimum=0, below=1
    )
    val_group_size: int | None = setting(
        None, "draw val in groups of G rows, such as those of one writer", metavar="G", minimum=1, below=_INT64
    )
    seed: int = setting(0, "which rows become val", minimum=0, below=_INT64)
    shards: int | None = setting(None, "files per split (default: about 128 MiB each)", minimum=1, below=MAX_SHARDS + 1)
    overwrite: bool = setting(False, "replace the data set in --out once the new one is complete")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.val_fraction is not None:
            ValidationSampler(self.val_fraction, self.seed)  # checks the fraction
        elif self.val_group_size is not None:
            raise InputError("--val-group-size needs --val-fraction")

    def validation(self, splits: Collection[str]) -> Validation:
        """The rule by which rows move from `train` to `val`, given these splits; InputError if it does not fit."""
        if self.val_fraction is None:
            return Validation()
        if VAL in splits or TRAIN not in splits:
            given = ", ".join(splits)
            raise InputError(
                f"--val-fraction takes rows out of 'train' for a new split 'val'; the data have: {given}; omit it"
            )
        return Validation(self.val_fraction, self.val_group_size, TRAIN, self.seed)


@dataclasses.dataclass(frozen=True)
class ConvertConfig(DatasetOptions):
    """Options of a conversion; tools/csv_to_tfrecord.py explains them.

    Args:
        splits: (name, file) pairs; files of one name follow one another. The name is "" if `split_column` decides.
        out: the directory to create; its base name becomes the data set's name.
        read: how files are read.
        labels: (name of a split, file of its labels) pairs, as many as the split has files.
        split_map: (value of that column, split) pairs beyond the usual names; the split "none" ignores the rows.

    Raises:
        InputError: a field is out of range, or two exclude each other.
    """

    splits: Sequence[tuple[str, pathlib.Path]]
    out: pathlib.Path
    read: ReadOptions = ReadOptions()
    labels: Sequence[tuple[str, pathlib.Path]] = ()
    split_column: str | None = setting(
        None,
        "the column that names the split of each row, by name or 0-based index; then --split FILE",
        metavar="COLUMN",
    )
    split_map: Sequence[tuple[str, str]] = ()
    workers: int | None = setting(
        None, "cores to use (default: all; small files use two threads)", minimum=1, below=_MAX_WORKERS + 1
    )
    runner: str = setting(LOCAL, "beam is Apache Beam", choices=RUNNERS)
    beam_args: str = setting("", "options of Beam, as --beam-args='--runner FlinkRunner'", metavar="TEXT")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_splits()
        self._check_runner()
        if not self.name:  # "/", or a name without a single letter or digit
            raise InputError(f"--out {str(self.out)!r}: the directory needs a name")
        longest = max(map(len, self.split_names)) + len(self.name)
        if longest > _MAX_NAME_BYTES:
            raise InputError(f"--out and a split's name have {longest} characters; file names allow {_MAX_NAME_BYTES}")

    def _check_runner(self) -> None:
        if self.beam_args and self.runner != BEAM:
            raise InputError("--beam-args needs --runner beam")
        if self.runner != BEAM:
            return
        if self.workers is not None:
            raise InputError("--workers is for this machine; give Beam's own option in --beam-args")
        if importlib.util.find_spec("apache_beam") is None:
            raise InputError("--runner beam needs apache-beam: python -m pip install -e '.[beam]'")
        try:
            shlex.split(self.beam_args)
        except ValueError as error:
            raise InputError(f"--beam-args {shorten(self.beam_args)}: {error}; close the quotes") from error

    def _check_splits(self) -> None:
        if not self.splits:
            raise InputError("no split given; name at least one CSV, as --split train=train.csv")
        for name in (*self.split_names, *(name for _, name in self.split_map)):
            if (name or self.split_column is None) and (not SPLIT_NAME.fullmatch(name) or name in _RESERVED):
                raise InputError(f"split name {name!r}: use letters, digits and _, a letter first, and not 'all'")
        if self.split_map and self.split_column is None:
            raise InputError("--split-map needs --split-column")
        for name, path in self.labels:
            if stored_name(name) not in self.split_names:
                raise InputError(f"--labels {name}={path}: no --split {name}=FILE is given")
        if self.split_column is None:
            self.validation(self.split_names)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits to read as they are stored, in the order given."""
        return tuple(dict.fromkeys(stored_name(name) for name, _ in self.splits))

    @property
    def name(self) -> str:
        """The data set's name, `dataset_name` of `out`."""
        return dataset_name(self.out)


def dataset_name(out: str | os.PathLike) -> str:
    """The base name of a directory in the letters that TensorFlow Datasets allows."""
    base = (as_path(out) if is_remote(out) else pathlib.Path.cwd().joinpath(out)).name.lower()
    cleaned = re.sub("[^a-z0-9_]+", "_", base)
    return f"data_{cleaned}" if cleaned and not cleaned[0].isalpha() else cleaned
