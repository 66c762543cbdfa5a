"""TFRecords that other programs wrote, written anew as a data set of ours.

Their records differ in length, so they cannot be read as a byte matrix. They are parsed once, here, and not at every
start: after that the feeds, the checksums and the audit are what they are for any other data.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import re

import numpy as np

from pipeline.convert.config import dataset_name
from pipeline.convert.examples import Examples, image_shape_of, read_examples
from pipeline.convert.ids import IdCheck
from pipeline.convert.output_dir import clear_directory, new_directory, write_file
from pipeline.convert.pixel_stats import PixelStats
from pipeline.convert.shard_writer import SplitWriter, deal_rows, encode_by_shard
from pipeline.errors import InputError
from pipeline.format import manifest as manifest_lib
from pipeline.format.json_fields import is_short_text
from pipeline.format.manifest import MAX_CLASSES, MAX_IMAGE_BYTES, SPLIT_NAME, Manifest, Split, Validation
from pipeline.format.records import UNLABELLED, RecordLayout
from pipeline.format.tfds_metadata import LABELS_FILE, metadata_files
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
    shards: int = 8,
    image_shape: tuple[int, int, int] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Read every record of a directory's TFRecords and write the data set `out`; returns its manifest.

    Args:
        directory: its files are named as TensorFlow Datasets does, SPLIT-00000-of-00008(.tfrecord) or SPLIT.tfrecord.
        out: appears when everything in it is complete, or not at all.
        shards: files of each split.
        image_shape: (height, width, channels); None takes it from the first image, if that is encoded or a square.

    Raises:
        InputError: a file is missing or damaged, or what is in them is no image data; nothing is written.
    """
    directory = pathlib.Path(directory)
    files = _find_files(directory)
    first = next(iter(files.values()))[0]
    shape = image_shape or image_shape_of(first)
    if shape is None:
        raise InputError(f"{first}: its first image is raw and no square of one channel; give --image-shape H W C")
    if math.prod(shape) > MAX_IMAGE_BYTES:
        raise InputError(f"{first}: images of {' x '.join(map(str, shape))}; up to {MAX_IMAGE_BYTES:,} bytes are read")
    of_stats = TRAIN if TRAIN in files else next(iter(files))
    name = dataset_name(out)
    with new_directory(out, overwrite) as partial:
        clear_directory(partial)  # of what a killed process left
        found = {}
        for split, paths in files.items():
            stats = PixelStats(shape[2]) if split == of_stats else None
            with contextlib.closing(_SplitCopy(partial, split, shards, shape, stats)) as copy:
                found[split] = copy.read(paths, name)
        manifest = _manifest(name, shape, found, _class_names(directory, found), of_stats)
        for file, text in metadata_files(manifest).items():
            write_file(partial / file, text)
        write_file(partial / manifest_lib.FILE_NAME, manifest.to_json())
    return manifest


@dataclasses.dataclass(frozen=True)
class _Found:
    """What was in the files of one split; `label_counts` int64 [most label + 1] is empty where there are no labels."""

    split: Split
    label_counts: np.ndarray
    stats: PixelStats | None


class _SplitCopy:
    """A split that is read and written at once, some records at a time."""

    def __init__(self, directory, split: str, num_shards: int, shape, stats: PixelStats | None) -> None:
        self._split, self._num_shards, self._shape, self._stats = split, num_shards, shape, stats
        self._layout = RecordLayout(int(np.prod(shape)))
        self._writer = SplitWriter(directory, split, num_shards)
        self._num_rows = 0
        self._counts = np.zeros(0, np.int64)
        self._with_labels: bool | None = None
        self._with_ids: bool | None = None
        self._ids = IdCheck()

    def read(self, paths: list[pathlib.Path], dataset: str) -> _Found:
        for path in paths:
            for examples in read_examples(path, self._shape):
                self._add(path, examples)
        if not self._num_rows:
            raise InputError(f"{paths[0]}: holds no record")
        if duplicate := self._ids.first_duplicate():
            value, row, again = duplicate
            raise InputError(f"{paths[0].parent}: split {self._split!r}: records {row} and {again} have the id {value}")
        shards = self._writer.finish(dataset, self._layout.stride)
        self._writer.publish(shards)
        return _Found(Split(self._split, self._num_rows, (), shards), self._counts, self._stats)

    def close(self) -> None:
        self._writer.close()

    def _add(self, path: pathlib.Path, examples: Examples) -> None:
        count = len(examples.labels)
        rows = np.arange(self._num_rows, self._num_rows + count)
        self._count_labels(path, examples.labels)
        if self._with_ids is None:
            self._with_ids = examples.ids is not None
        if self._with_ids != (examples.ids is not None):
            raise InputError(f"{path}: some records have an id and some have none; give all of them one, or none")
        ids = examples.ids if self._with_ids else rows
        self._ids.add(ids)
        deal = deal_rows(self._num_rows, count, self._num_shards)
        records = encode_by_shard(self._layout, examples.images, examples.labels, ids, np.arange(count), deal)
        self._writer.append(records, deal)
        if self._stats is not None:
            self._stats.merge(PixelStats.of(examples.images, self._shape[2]))
        self._num_rows += count

    def _count_labels(self, path: pathlib.Path, labels: np.ndarray) -> None:
        labelled = labels != UNLABELLED
        if self._with_labels is None:
            self._with_labels = bool(labelled[0])
        if (labelled != self._with_labels).any():
            raise InputError(f"{path}: some records have a label and some have none; put them in two splits")
        if not self._with_labels:
            return
        for wrong in (int(labels.min()), int(labels.max())):
            if not 0 <= wrong < MAX_CLASSES:
                raise InputError(f"{path}: label {wrong} is no class index; they count from 0 to {MAX_CLASSES - 1:,}")
        counts = np.bincount(labels, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts


def _find_files(directory: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Split name -> its files in their order."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    places: dict[str, dict[int, tuple[pathlib.Path, int]]] = {}
    for path in sorted(directory.iterdir()):
        match = next(filter(None, (pattern.fullmatch(path.name) for pattern in _NAMES)), None)
        if match is None or not path.is_file():
            continue
        given = match.groupdict()
        index, count = int(given.get("index") or 0), int(given.get("count") or 1)
        before = places.setdefault(given["split"], {}).setdefault(index, (path, count))
        if before != (path, count):
            raise InputError(f"{path}: stands for the same shard as {before[0].name}; keep one of them there")
    if not places:
        raise InputError(f"{directory}: no TFRecords here; they are named such as NAME-train.tfrecord-00000-of-00008")
    for split, by_index in places.items():
        counts = {count for _, count in by_index.values()}
        missing = sorted(set(range(max(counts))) - set(by_index))
        if len(counts) > 1 or missing:
            what = f"shard {missing[0]} is missing" if missing else "their names tell different numbers of shards"
            raise InputError(f"{directory}: split {split!r}: {what}; get the files again")
    order = sorted(places, key=lambda name: (name != TRAIN, name))
    return {split: [places[split][index][0] for index in sorted(places[split])] for split in order}


def _class_names(directory: pathlib.Path, found: dict[str, _Found]) -> tuple[str, ...]:
    """The names that TensorFlow Datasets keeps beside its files, if a manifest can hold them, or the class indices."""
    classes = max(len(each.label_counts) for each in found.values())
    path = directory / LABELS_FILE
    names = tuple(path.read_text(encoding="utf-8").splitlines()) if classes and path.is_file() else ()
    sound = len(set(names)) == len(names) >= classes and all(map(is_short_text, names))
    return names if sound else tuple(map(str, range(classes)))


def _manifest(name: str, shape, found: dict[str, _Found], class_names: tuple[str, ...], of_stats: str) -> Manifest:
    splits = {}
    for split, each in found.items():
        counts = np.pad(each.label_counts, (0, len(class_names) - len(each.label_counts)))
        labelled = tuple(counts.tolist()) if len(each.label_counts) else ()
        splits[split] = dataclasses.replace(each.split, class_counts=labelled)
    stats = found[of_stats].stats
    return Manifest(
        name=name,
        image_shape=shape,
        class_names=class_names,
        splits=splits,
        sources=(),
        validation=Validation(),
        pixel_mean=stats.mean,
        pixel_std=stats.std,
        stride=RecordLayout(int(np.prod(shape))).stride,
    )
