"""One shard on disk, read by pages, each proved by the manifest's checksum before anything is made of it."""

import pathlib

import numpy as np

from pipeline.errors import InputError
from pipeline.format.manifest import Manifest, Shard, Split
from pipeline.format.pages import page_rows, wrong_page
from pipeline.format.records import UNLABELLED


class ShardFile:
    """A shard whose size is the manifest's; reading it finds whether its content is.

    Raises:
        InputError: the file is missing or has another size; the message says what to do.
    """

    def __init__(self, directory: pathlib.Path, manifest: Manifest, split: Split, shard: Shard) -> None:
        self.path = directory / shard.name
        self.num_examples = shard.num_examples
        self.page_rows = page_rows(manifest.stride)
        self._layout = manifest.layout
        self._labels = (0 if split.labelled else UNLABELLED), (manifest.num_classes if split.labelled else 0)
        self._mend = f"mend with: {manifest.repair_command(directory, split.name)}"
        if not self.path.is_file():
            raise InputError(f"{self.path}: missing, though the manifest names it; {self._mend}")
        found = self.path.stat().st_size
        if found != shard.num_bytes:
            raise InputError(
                f"{self.path}: {found} bytes, expected {shard.num_bytes} ({shard.num_examples} records); {self._mend}"
            )
        self._crcs = manifest.page_crcs(shard)

    def read(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images uint8 [count, H*W*C] (a view), labels and ids int64 [count] of records first .. first + count - 1.

        Whole pages are read, so runs that begin and end with a page cost least.

        Raises:
            InputError: a page is not as it was written, or a label is of no class; the message names the record.
        """
        stride, page = self._layout.stride, self.page_rows
        first_page, last_page = first // page, -(-(first + count) // page)
        low, high = first_page * page, min(last_page * page, self.num_examples)
        data = np.fromfile(self.path, np.uint8, (high - low) * stride, offset=low * stride)
        if len(data) != (high - low) * stride:
            raise InputError(f"{self.path}: cut while it was read; {self._mend}")
        wrong = wrong_page(data, page * stride, self._crcs[first_page:last_page])
        records = data.reshape(high - low, stride)
        if wrong is not None:
            raise self._damage(records[wrong * page : (wrong + 1) * page], low + wrong * page)
        images, labels, ids = self._layout.decode(records[first - low : first - low + count])
        strange = (labels < self._labels[0]) | (labels >= self._labels[1])
        if strange.any():
            record = int(strange.argmax())
            raise InputError(
                f"{self.path}: record {first + record} has class {labels[record]}, which the manifest has not"
            )
        return images, labels, ids

    def _damage(self, page: np.ndarray, first: int) -> InputError:
        """What is wrong with a page whose checksum is not the manifest's."""
        broken = self._layout.first_broken(page)
        if broken is not None:
            return InputError(f"{self.path}: record {first + broken} (counted from 0) is damaged; {self._mend}")
        return InputError(
            f"{self.path}: records {first} to {first + len(page) - 1} are sound, but not those that were written there "
            f"(a file swapped, or records doubled or moved); {self._mend}"
        )
