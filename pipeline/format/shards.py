"""One shard on disk: written in sequence with its checksums, read by verified pages."""

import hashlib
import os
import pathlib
import secrets
import shlex
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor

import google_crc32c
import numpy as np

from pipeline.errors import InputError
from pipeline.format.manifest import Manifest, Shard, Split
from pipeline.format.records import UNLABELLED, page_rows
from pipeline.remote import file_size, is_remote, read_range, upload

_FLUSH_BYTES = 8 << 20  # between flushes; a smaller shard is flushed once, by `finish`


class ShardWriter:
    """Writes one shard; a context manager. Without `finish` a temporary file stays, for the caller to remove.

    A shard for an object store is written to the directory for temporary files first. A thread flushes earlier records
    to the disk while later ones are computed, so that little is left to wait for.
    """

    def __init__(self, path: pathlib.Path, stride: int) -> None:
        self._path = path
        self._stride = stride
        self._page_bytes = page_rows(stride) * stride
        self._page_crcs: list[int] = []
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0
        # Its own name: two attempts at one task may overlap, and only a complete shard gets the shard's name.
        folder = pathlib.Path(tempfile.gettempdir()) if is_remote(path) else path.parent
        self._temporary = folder / f".{path.name}.{secrets.token_hex(4)}"
        self._file = self._temporary.open("wb")
        self._flusher = ThreadPoolExecutor(1)
        self._flushes: list[Future] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flusher.shutdown(cancel_futures=True)
        self._file.close()
        if is_remote(self._path):
            self._temporary.unlink(missing_ok=True)

    def append(self, records: np.ndarray) -> None:
        """Write records uint8 [n, stride] (`RecordLayout.encode`), contiguous, after those before."""
        data = records.reshape(-1)
        self._sha256.update(data.data)
        self._file.write(data.data)
        # Here rather than at the end, which would read the file again: the bytes are in the cache now.
        while len(data):
            begun = self._num_bytes % self._page_bytes
            if not begun:
                self._page_crcs.append(0)
            part, data = np.split(data, [self._page_bytes - begun])
            self._page_crcs[-1] = google_crc32c.extend(self._page_crcs[-1], part)
            self._num_bytes += len(part)
        if self._num_bytes // _FLUSH_BYTES > len(self._flushes):
            self._flushes.append(self._flusher.submit(os.fsync, self._file.fileno()))

    def finish(self) -> Shard:
        """Flush everything to the disk; the shard as the manifest lists it.

        Raises:
            OSError: a write failed, also an earlier one.
        """
        self._file.flush()
        for flush in self._flushes:
            flush.result()  # the system reports a failed write only once, to the first flush after it
        os.fsync(self._file.fileno())
        self._file.close()
        if is_remote(self._path):
            upload(self._temporary, self._path)
        else:
            self._temporary.replace(self._path)
        count, page_crc32c = self._num_bytes // self._stride, np.array(self._page_crcs, ">u4").tobytes().hex()
        return Shard(self._path.name, count, self._num_bytes, page_crc32c, self._sha256.hexdigest())


def repair_command(manifest: Manifest, directory: str | os.PathLike, split: str) -> str:
    """The command that repairs a split; sources have the names under which they were converted."""
    command = f"python tools/inspect_tfrecord.py repair {shlex.quote(str(directory))}"
    for source in manifest.sources_of(split):
        file = source.name if source.name.isprintable() else "FILE"
        command += f" --from {shlex.quote(f'{source.split}={file}')}"
    return command


class ShardReader:
    """Reads records of a shard whose file has the manifest's size; each read verifies the checksums of its pages.

    Raises:
        InputError: the file is missing or has another size; the message gives the command that repairs it.
    """

    def __init__(self, directory: pathlib.Path, manifest: Manifest, split: Split, shard: Shard) -> None:
        self.path = directory / shard.name
        self.num_examples = shard.num_examples
        self.page_rows = page_rows(manifest.stride)
        self._layout = manifest.layout
        self._labels = range(manifest.num_classes) if split.labelled else range(UNLABELLED, 0)
        where, place = ("a local copy ", directory.name) if is_remote(directory) else ("", directory)
        self._remedy = f"repair {where}with: {repair_command(manifest, place, split.name)}"
        size = file_size(self.path)
        if size is None:
            raise InputError(f"{self.path}: missing, though the manifest lists it; {self._remedy}")
        if size != shard.num_bytes:
            raise InputError(
                f"{self.path}: {size} bytes, expected {shard.num_bytes} ({shard.num_examples} records); {self._remedy}"
            )
        self._crcs = manifest.page_crcs(shard)

    def read(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images uint8 [count, H*W*C] (a view), labels and ids int64 [count] of records first .. first + count - 1.

        Whole pages are read, so runs that begin and end with a page cost least.

        Raises:
            InputError: a page is not as written, or a label is out of range; the message names the record.
        """
        stride, page = self._layout.stride, self.page_rows
        low, high = first // page * page, min(-(-(first + count) // page) * page, self.num_examples)
        data = read_range(self.path, low * stride, (high - low) * stride)
        if len(data) != (high - low) * stride:
            raise InputError(f"{self.path}: truncated while it was read; {self._remedy}")
        records = data.reshape(high - low, stride)
        for start in range(0, high - low, page):
            crc = google_crc32c.value(data[start * stride : (start + page) * stride])
            if crc != self._crcs[(low + start) // page]:
                raise self._page_error(records[start : start + page], low + start)
        images, labels, ids = self._layout.decode(records[first - low : first - low + count])
        invalid = (labels < self._labels.start) | (labels >= self._labels.stop)
        if invalid.any():
            record = int(invalid.argmax())
            raise InputError(
                f"{self.path}: record {first + record} has class {labels[record]}, which the manifest does not list"
            )
        return images, labels, ids

    def _page_error(self, page: np.ndarray, first: int) -> InputError:
        """The error for a page whose checksum is not the manifest's."""
        corrupt = self._layout.first_corrupt(page)
        if corrupt is not None:
            return InputError(f"{self.path}: record {first + corrupt} (counted from 0) is corrupt; {self._remedy}")
        return InputError(
            f"{self.path}: records {first} to {first + len(page) - 1} are valid, but not the ones written there "
            f"(a file swapped, or records duplicated or moved); {self._remedy}"
        )
