"""Data sets of TensorFlow Datasets, in whatever format it stored them. Importing this module imports TensorFlow."""

import dataclasses
import itertools
import logging
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.convert.pixels import Shape
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers.column_reader import Block, ColumnReader
from pipeline.convert.readers.labels import as_labels
from pipeline.convert.readers.pictures import fit_picture
from pipeline.convert.tfrecords.keys import Keys, choose_keys
from pipeline.errors import InputError, list_few

_BLOCK_BYTES = 8 << 20
_MAX_BATCH = 1024


class TfdsReader(ColumnReader):
    """One split of a prepared data set, in the order in which its files have it.

    Args:
        directory: of the data set and its version, such as ~/tensorflow_datasets/mnist/3.0.1.
        split: as TensorFlow Datasets names it.
        options: `image_size` and `channels` change images.
        keys: of the features; None: those that the data set declares for supervised learning, or usual names.

    Raises:
        InputError: a feature is not found, or its images have no fixed size and none is given.
    """

    image_shape: Shape
    id_option = "--id-key"
    is_encoded = True  # so far as its images are resized here

    def __init__(self, directory: str, split: str, options: ReadOptions, keys: Keys) -> None:
        self.path, self._split, self._options = pathlib.Path(directory), split, options
        info = self._builder().info
        features = dict(info.features)
        pair = info.supervised_keys if info.supervised_keys and len(info.supervised_keys) == 2 else (None, None)
        image, label = (key if isinstance(key, str) else None for key in pair)
        given = Keys(keys.image or image, keys.label or label, keys.id)
        found, self._label, self._id, _ = dataclasses.astuple(choose_keys(directory, features, given, _list(features)))
        self.label_advice = f"choose with --label-key, or give --label-key none; it has {_list(features)}"
        self._images = [found]
        names = getattr(features.get(self._label), "names", None)
        self.class_names = tuple(names) if names else None
        self.image_shape = self._find_shape(features[found])
        self._drop_hidden_labels()

    def place_of(self, row: int) -> str:
        """How messages name an example."""
        return f"{self.path}, split {self._split!r}, example {row} (counted from 0)"

    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.path)

    def _num_rows(self) -> int:
        return self._builder().info.splits[self._split].num_examples

    def _read(self, names: list[str]) -> Iterator[list[dict[str, Any]]]:
        import tensorflow_datasets as tfds

        builder = self._builder()
        # Not PartialDecoding: as_data_source does not know it.
        decoders = {key: tfds.decode.SkipDecoding() for key in builder.info.features if key not in names}
        # One file after another: by default TFDS interleaves blocks of several.
        config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        try:
            try:
                examples = builder.as_dataset(split=self._split, decoders=decoders, read_config=config)
                rows = iter(examples.as_numpy_iterator())
            except NotImplementedError:  # of files for random access, such as ArrayRecord
                rows = iter(builder.as_data_source(split=self._split, decoders=decoders))
            while block := list(itertools.islice(rows, self._rows_per_block)):
                yield block
        # Whatever corrupt or missing files, or formats without their library, lead to.
        except Exception as error:
            raise InputError(
                f"{self.path}, split {self._split!r}: TensorFlow Datasets cannot read it: {_reason(error)}; get it "
                "again"
            ) from error

    @property
    def _rows_per_block(self) -> int:
        return max(1, min(_MAX_BATCH, _BLOCK_BYTES // math.prod(self.image_shape)))

    def _values(self, block: Block) -> np.ndarray:
        images = enumerate((example[self._images[0]] for example in block.rows), block.start)
        return np.stack([fit_picture(self.place_of(row), image, self._options) for row, image in images])

    def _column(self, block: Block, name: str) -> np.ndarray:
        return as_labels(f"{self.path}, feature {name}", np.array([example[name] for example in block.rows]))

    def _find_shape(self, feature: Any) -> Shape:
        shape = (*feature.shape, 1)[:3] if feature.shape is not None and len(feature.shape) in (2, 3) else ()
        if not shape:
            raise InputError(f"{self.path}: feature {self._images[0]} is no image, its shape is {feature.shape}")
        if None in shape[:2] and self._options.image_size is None:
            raise InputError(f"{self.path}: its images differ in size; resize them with --image-size H W")
        height, width, channels = shape
        return self._options.fitted((width, height, channels) if self._options.transpose else shape)


def _list(features: dict[str, Any]) -> str:
    return list_few([f"{key} ({type(feature).__name__})" for key, feature in sorted(features.items())], 20)


def _reason(error: Exception) -> str:
    """The first line of an error, without the graph's nodes that TensorFlow names."""
    return re.sub(r"\{\{.*?\}\} ?", "", str(error).strip() or type(error).__name__).splitlines()[0]


def _quiet() -> None:
    # TFDS 4.9 warns of its own use of a deprecated property, several times per split.
    logging.getLogger("absl").setLevel(logging.ERROR)


def prepare(name: str, data_dir: str | None) -> tuple[str, list[str]]:
    """(directory, splits) of a data set of TensorFlow Datasets, given its name or directory; downloaded if missing.

    Raises:
        InputError: TensorFlow Datasets is not installed, does not know the data set, or cannot prepare it.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError("--tfds needs TensorFlow Datasets; run: python -m pip install tensorflow-datasets") from error
    _quiet()
    try:
        if pathlib.Path(name).is_dir():
            builder = tfds.builder_from_directory(_version_directory(pathlib.Path(name)))
        else:
            builder = tfds.builder(name, data_dir=data_dir)
            builder.download_and_prepare()
    except InputError:
        raise
    # Whatever a data set's own code, or a download, leads to.
    except Exception as error:
        where = f" in --data-dir {data_dir}" if data_dir else ""
        raise InputError(f"--tfds {name}{where}: TensorFlow Datasets cannot prepare it: {_reason(error)}") from error
    return str(builder.data_dir), list(builder.info.splits)


def _version_directory(directory: pathlib.Path) -> pathlib.Path:
    """The directory with a data set's metadata: itself, or the newest version within."""
    if (directory / "features.json").is_file():
        return directory
    versions = [path.parent for path in [*directory.glob("*/features.json"), *directory.glob("*/*/features.json")]]
    if len(versions) != 1:
        held = list_few(sorted(map(str, versions)), 3) or "none"
        raise InputError(f"--tfds {directory}: no data set of TensorFlow Datasets; those within: {held}; give one")
    return versions[0]
