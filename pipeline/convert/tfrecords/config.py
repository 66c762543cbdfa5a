"""Options of an import, checked before TensorFlow is imported."""

import dataclasses
import pathlib

from pipeline.cli import setting
from pipeline.convert.config import DatasetOptions
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.tfrecords.files import find_tfrecords
from pipeline.convert.tfrecords.keys import Keys
from pipeline.errors import InputError
from pipeline.format.manifest import SPLIT_NAME
from pipeline.remote import is_remote

_FEATURES = "features of a record"


@dataclasses.dataclass(frozen=True)
class ImportConfig(DatasetOptions):
    """Options of an import; tools/import_tfrecord.py explains them.

    `directory` holds TFRecords; or `tfds` names a data set of TensorFlow Datasets or is its directory. `read` says how
    images are read.

    Raises:
        InputError: an option is out of range, two exclude each other, or a directory is missing.
    """

    out: str
    directory: str | None = None
    read: ReadOptions = ReadOptions()
    tfds: str | None = setting(
        None, "a data set of TensorFlow Datasets, downloaded if it is not there, or its directory", metavar="NAME"
    )
    data_dir: str | None = setting(None, "where --tfds keeps data (default: ~/tensorflow_datasets)", metavar="DIR")
    split: tuple[str, ...] = setting(
        (),
        "files of a split, relative to DIR, if their names do not say it, as train='part-*'; repeat it for more",
        metavar="NAME=PATTERN",
        repeat=True,
    )
    image_key: str | None = setting(
        None, "of the image (default: image, image/encoded, image_raw, ...)", metavar="KEY", group=_FEATURES
    )
    label_key: str | None = setting(
        None, "of the label, or none (default: label, image/class/label, class, ...)", metavar="KEY", group=_FEATURES
    )
    id_key: str | None = setting(
        None, "of the id, or none (default: id, image_id, ...)", metavar="KEY", group=_FEATURES
    )
    image_type: str | None = setting(
        None,
        "of raw bytes, such as float32, whose --pixel-range is 0 1 as a rule (default: uint8)",
        choices=("uint8", "uint16", "int32", "int64", "float32", "float64"),
        group=_FEATURES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.directory is None) == (self.tfds is None):
            raise InputError("give either a directory of TFRecords or --tfds NAME")
        if self.data_dir is not None and (self.tfds is None or not pathlib.Path(self.data_dir).is_dir()):
            reason = "no such directory" if self.tfds else "it is for --tfds only"
            raise InputError(f"--data-dir {self.data_dir}: {reason}")
        if self.directory is not None:
            self.files()

    @property
    def keys(self) -> Keys:
        return Keys(self.image_key, self.label_key, self.id_key, self.image_type)

    def files(self) -> dict[str, list[pathlib.Path]]:
        """Split -> its TFRecord files."""
        patterns = []
        for text in self.split:
            name, separator, pattern = text.partition("=")
            if not separator or not pattern or not SPLIT_NAME.fullmatch(name):
                raise InputError(f"--split {text!r} must be NAME=PATTERN, as train='part-*'")
            patterns.append((name, pattern))
        if is_remote(self.directory or ""):
            raise InputError(f"{self.directory}: TFRecords are imported from local folders only; copy them here first")
        return find_tfrecords(pathlib.Path(self.directory or ""), patterns)
