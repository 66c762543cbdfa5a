"""The manifest of a data set: what lies in its directory, where it came from, and where each row is.

Row r of a split lies in shard r % num_shards at place r // num_shards. So shards are balanced without knowing the
total in advance, each one is an even sample of the split, and the order of the CSV is arithmetic. The file holds
its own hash, so that a manifest that was changed is seen.
"""

import dataclasses
import functools
import hashlib
import json
import re
import shlex
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.format.pages import page_rows, parse_page_crcs
from pipeline.format.records import RecordLayout

FILE_NAME = "manifest.json"
VERSION = 2
SPLIT_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
MAX_IMAGE_BYTES = 16 << 20  # 4096 x 4096; a reader makes a template record of that size
MAX_CLASSES = 1_000_000  # far more different labels than this would be ids, and would fill the memory

OWN_HASH = "own_sha256"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file; `name` is relative to the data set's directory.

    `page_crc32c` has eight hexadecimal digits for each page of the file (`pipeline.format.pages`).
    """

    name: str
    num_examples: int
    num_bytes: int
    page_crc32c: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A named part of the data. `class_counts[k]` counts class k; it is empty where the split has no labels."""

    name: str
    num_examples: int
    class_counts: tuple[int, ...]
    shards: tuple[Shard, ...]

    @property
    def labelled(self) -> bool:
        return bool(self.class_counts)


@dataclasses.dataclass(frozen=True)
class Source:
    """A CSV that was read: all that is needed to read it in the same way again.

    A column is a name or, without a header, a 0-based index; None says that there is none. Without an id column the
    ids are the numbers of the rows in their split.
    """

    split: str
    name: str
    num_bytes: int
    sha256: str
    num_rows: int
    has_header: bool
    label_column: str | None
    id_column: str | None


@dataclasses.dataclass(frozen=True)
class Validation:
    """How rows were taken out of `source` into the split `val`; `fraction` 0 means that none were."""

    fraction: float = 0.0
    group_size: int | None = None
    source: str = "train"
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything a reader needs. `class_names[k]` is the label that the CSV had for class k.

    `pixel_mean` and `pixel_std` have one value a channel, over the split `train`, in pixel units (0..255).
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    sources: tuple[Source, ...]
    validation: Validation
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    stride: int
    version: int = VERSION

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @functools.cached_property
    def layout(self) -> RecordLayout:
        height, width, channels = self.image_shape
        return RecordLayout(height * width * channels)

    def split(self, name: str) -> Split:
        """The split of that name, or InputError naming those there are."""
        if name not in self.splits:
            raise InputError(f"no split {name!r} in {self.name}; it has {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def page_crcs(self, shard: Shard) -> np.ndarray:
        """uint32 [pages]: the CRC-32C of each page of a shard."""
        return parse_page_crcs(shard.page_crc32c, -(-shard.num_examples // page_rows(self.stride)))

    def sources_of(self, split: str) -> tuple[Source, ...]:
        """The CSVs whose rows are in a split, in their order."""
        drawn = self.validation.fraction > 0 and split == "val"
        return tuple(source for source in self.sources if source.split == (self.validation.source if drawn else split))

    def repair_command(self, directory: Any, split: str) -> str:
        """What to type to mend a split; the CSVs are named as they were called when they were read."""
        files = [(each.split, each.name if each.name.isprintable() else "FILE") for each in self.sources_of(split)]
        given = [f"--from {shlex.quote(f'{name}={file}')}" for name, file in files]
        return " ".join(["python tools/inspect_tfrecord.py repair", shlex.quote(str(directory)), *given])

    def to_json(self) -> str:
        """The text of the file."""
        fields = dataclasses.asdict(self)
        return _dump({**fields, OWN_HASH: self.own_sha256})

    @functools.cached_property
    def own_sha256(self) -> str:
        """Hash of all that the manifest says; the file repeats it."""
        return hashlib.sha256(_dump(dataclasses.asdict(self)).encode()).hexdigest()

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the manifest as written; it pins every byte of the data set."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"
