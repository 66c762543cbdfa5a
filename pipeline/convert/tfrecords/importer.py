"""TFRecords of another program, or a data set of TensorFlow Datasets, as other kinds of source for the converter.

Their records differ in length, so they cannot be read as a byte matrix. They are parsed once, here, and not at every
start of a training. Importing a data set imports TensorFlow.
"""

import functools
import pathlib
from typing import Any

from pipeline.convert.config import dataset_name
from pipeline.convert.converter import OnNotice, OnWritten, write_dataset
from pipeline.convert.inputs import agree
from pipeline.convert.plan import Labels, Rules
from pipeline.convert.tfrecords.config import ImportConfig
from pipeline.errors import InputError
from pipeline.format.manifest import MAX_CLASSES, Manifest
from pipeline.format.manifest_rules import is_class_name
from pipeline.format.tfds_metadata import LABELS_FILE
from pipeline.splits import TRAIN, split_notes, stored_name

Readers = dict[str, list[Any]]


def import_dataset(
    config: ImportConfig, on_notice: OnNotice | None = None, on_written: OnWritten | None = None
) -> Manifest:
    """Read every example and write the data set `config.out`; returns its manifest.

    The directory appears when everything in it is complete, or not at all.

    Raises:
        InputError: a file is missing or corrupt, or its records are not images; nothing is written.
    """
    note = on_notice or (lambda _: None)
    readers = (_open_records if config.tfds is None else _open_tfds)(config)
    opened = [(stored_name(split), reader) for split, group in readers.items() for reader in group]
    for line in dict.fromkeys([*config.read.notes, *(line for _, reader in opened for line in reader.notes)]):
        note(line)
    for line in split_notes(readers, any(reader.has_labels for _, reader in opened)):
        note(line)
    of_train = readers.get(TRAIN, [])
    if of_train and config.label_key is None and not any(reader.has_labels for reader in of_train):
        raise InputError(f"{of_train[0].path}: no labels, which {TRAIN!r} needs; {of_train[0].label_advice}")
    inputs = agree(opened, config.read, note)
    rules = Rules(
        dataset_name(config.out),
        inputs.image_shape,
        config.shards,
        config.validation(inputs.files),
        functools.partial(_classes, inputs.class_names or _names_beside(config.directory)),
    )
    return write_dataset(
        inputs.files, rules, config.out, config.overwrite, workers=1, on_notice=on_notice, on_written=on_written
    )


def _open_records(config: ImportConfig) -> Readers:
    from pipeline.convert.tfrecords.reader import TfrecordReader

    files = config.files()
    first = TfrecordReader(next(iter(files.values()))[0], config.read, config.keys)
    # Every other image must have the shape of the first.
    make = functools.partial(TfrecordReader, options=config.read, keys=config.keys, known_shape=first.known_shape)
    return {split: list(map(make, paths)) for split, paths in files.items()}


def _open_tfds(config: ImportConfig) -> Readers:
    from pipeline.convert.tfrecords.tfds import TfdsReader, prepare

    directory, splits = prepare(str(config.tfds), config.data_dir)
    splits = sorted(splits, key=lambda name: (name != TRAIN, name))
    return {split: [TfdsReader(directory, split, config.read, config.keys)] for split in splits}


def _names_beside(directory: str | None) -> tuple[str, ...]:
    """Names of classes that TensorFlow Datasets keeps beside its files."""
    path = pathlib.Path(directory or "") / LABELS_FILE
    if directory is None or not path.is_file():
        return ()
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; fix or remove it") from error


def _classes(names: tuple[str, ...], labels: Labels) -> tuple[Labels, tuple[str, ...]]:
    """Classes 0, 1, ... with these names or, if they cannot be names of the labels that occur, their numbers."""
    num_classes = max(labels, default=-1) + 1
    # A file of names may be another program's: invalid, or too short.
    if not (num_classes <= len(names) == len(set(names)) <= MAX_CLASSES and all(map(is_class_name, names))):
        names = tuple(map(str, range(num_classes)))
    return tuple(range(len(names))) if num_classes else (), names if num_classes else ()
