"""TFRecords of another program as a data set: another kind of source for the converter's plan and tasks.

Their records differ in length, so they cannot be read as a byte matrix. They are parsed once, here, and not at every
start of a training.
"""

import math
import os
import pathlib
import re

from pipeline.convert.config import dataset_name
from pipeline.convert.converter import OnNotice, write_dataset
from pipeline.convert.inputs import check_same_roles
from pipeline.convert.plan import Labels, Rules
from pipeline.convert.tfrecord_reader import TfrecordFile
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_CLASSES, MAX_IMAGE_BYTES, SPLIT_NAME, Manifest, is_class_name
from pipeline.format.tfds_metadata import LABELS_FILE
from pipeline.splits import TRAIN

_SPLIT = f"(?P<split>{SPLIT_NAME.pattern})"
_PLACE = r"(?P<index>\d{5})-of-(?P<count>\d{5})"
_NAMES = (
    re.compile(rf"(?:.*-)?{_SPLIT}\.tfrecords?-{_PLACE}"),  # as TensorFlow Datasets names them
    re.compile(rf"(?:.*-)?{_SPLIT}-{_PLACE}(?:\.tfrecords?)?"),
    re.compile(rf"{_SPLIT}\.tfrecords?"),
)


def import_tfrecords(
    directory: str | os.PathLike,
    out: str | os.PathLike,
    shards: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    overwrite: bool = False,
    on_notice: OnNotice | None = None,
) -> Manifest:
    """Read every record of a directory's TFRecords and write the data set `out`; returns its manifest.

    Args:
        directory: its files are named as TensorFlow Datasets does, SPLIT-00000-of-00008(.tfrecord) or SPLIT.tfrecord.
        out: appears when everything in it is complete, or not at all.
        shards: files per split; None makes them about 128 MiB each.
        image_shape: (height, width, channels); None takes it from the first image, if that is encoded or a square.

    Raises:
        InputError: a file is missing or corrupt, or its records are not images; nothing is written.
    """
    directory = pathlib.Path(directory)
    paths = _find_files(directory)
    first = TfrecordFile(next(iter(paths.values()))[0], image_shape)
    shape = first.image_shape
    if math.prod(shape) > MAX_IMAGE_BYTES:
        raise InputError(f"{first.path}: images of {' x '.join(map(str, shape))}; at most {MAX_IMAGE_BYTES:,} bytes")
    # With the shape of the first image, which every other must have.
    inputs = {split: [TfrecordFile(path, shape) for path in of_split] for split, of_split in paths.items()}
    for split, files in inputs.items():
        check_same_roles(split, files)
    rules = Rules(dataset_name(out), shape, shards, classes=lambda labels: _classes(directory, labels))
    return write_dataset(inputs, rules, out, overwrite, workers=1, on_notice=on_notice)


def _find_files(directory: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Split -> its files in order; train comes first."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    places: dict[str, dict[int, tuple[pathlib.Path, int]]] = {}
    for path in sorted(directory.iterdir()):
        match = next(filter(None, (pattern.fullmatch(path.name) for pattern in _NAMES)), None)
        if match is None or not path.is_file():
            continue
        fields = match.groupdict()
        index, count = int(fields.get("index") or 0), int(fields.get("count") or 1)
        by_index = places.setdefault(fields["split"], {})
        if index in by_index:
            raise InputError(f"{path}: the same shard as {by_index[index][0].name}; remove one of them")
        by_index[index] = path, count
    if not places:
        raise InputError(f"{directory}: no TFRecords; they have names like NAME-train.tfrecord-00000-of-00008")
    for split, by_index in places.items():
        counts = {count for _, count in by_index.values()}
        missing = sorted(set(range(max(counts))) - set(by_index))
        if len(counts) > 1 or missing:
            what = f"shard {missing[0]} is missing" if missing else "their names give different numbers of shards"
            raise InputError(f"{directory}: split {split!r}: {what}; get the files again")
    order = sorted(places, key=lambda name: (name != TRAIN, name))
    return {split: [places[split][index][0] for index in sorted(places[split])] for split in order}


def _classes(directory: pathlib.Path, labels: Labels) -> tuple[Labels, tuple[str, ...]]:
    """Classes 0, 1, ... with the names that TensorFlow Datasets keeps beside its files, or else their numbers."""
    num_classes = max(labels, default=-1) + 1
    path = directory / LABELS_FILE
    names: tuple[str, ...] = ()
    if num_classes and path.is_file():
        try:
            names = tuple(path.read_text(encoding="utf-8").splitlines())
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text; fix or remove it") from error
    # A file of names may be another program's: invalid, or too short for the labels that occur.
    if not (num_classes <= len(names) == len(set(names)) <= MAX_CLASSES and all(map(is_class_name, names))):
        names = tuple(map(str, range(num_classes)))
    return tuple(range(len(names))), names
