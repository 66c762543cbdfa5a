"""How far a conversion came, kept beside its shards, so that the same command goes on after a kill.

A journal holds positions and hashes alone. What else must be known of the rows before it - labels, ids, sums of
pixels - is read back from their records, in a third of the time that converting them takes. It is only believed where
the hash of every source's prefix and of every shard says so; replaced atomically, it is whole or the one before.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.convert.position import Position
from pipeline.format.manifest import VERSION as MANIFEST_VERSION
from pipeline.format.manifest import Source

FILE_NAME = "journal.json"
VERSION = 1


class Stale(Exception):
    """What a killed conversion left cannot be gone on from; the text says why."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """How much of a split is written: its rows, and the SHA-256 of each shard that has any."""

    num_rows: int
    sha256: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Journal:
    """A pass up to a moment: the sources begun, in order, and the splits begun, by name.

    `identity` is what must be the same for going on. In a second pass `class_labels[k]` is the label of class k, and
    `first_pass` says what the first one read.
    """

    identity: dict[str, Any]
    class_labels: tuple[int, ...] | None
    first_pass: tuple[Source, ...]
    sources: tuple[Position, ...]
    splits: dict[str, Mark]


def identity_of(**settings: Any) -> dict[str, Any]:
    """An `identity`: settings by the names that messages give them, as JSON would return them."""
    return json.loads(json.dumps({"version": [VERSION, MANIFEST_VERSION], **settings}))


def read_journal(directory: pathlib.Path, identity: dict[str, Any]) -> Journal:
    """The journal that was left in a directory.

    Raises:
        Stale: there is none, it is damaged, or it is of another identity.
    """
    try:
        digest, _, text = (directory / FILE_NAME).read_bytes().partition(b"\n")
    except FileNotFoundError as error:
        raise Stale("it had not come far enough to go on from") from error
    except OSError as error:
        raise Stale(f"its journal cannot be read ({error.strerror})") from error
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise Stale("its journal is damaged")
    raw = json.loads(text)
    other = [name for name in identity if raw["identity"].get(name) != identity[name]]
    if other:  # another version first of all: then the rest may be of another form
        raise Stale(f"it differs in {', '.join(other)}")
    return Journal(
        identity,
        None if raw["class_labels"] is None else tuple(raw["class_labels"]),
        tuple(Source(**source) for source in raw["first_pass"]),
        tuple(Position(**position) for position in raw["sources"]),
        {name: Mark(mark["num_rows"], tuple(mark["sha256"])) for name, mark in raw["splits"].items()},
    )


class JournalWriter(contextlib.AbstractContextManager):
    """Writes the journal of a directory, in a thread so that the conversion does not wait for the disk."""

    def __init__(self, directory: pathlib.Path, interval: int):
        self.path = directory / FILE_NAME
        self._interval = interval
        self._unwritten = 0
        self._thread = ThreadPoolExecutor(1)
        self._last: Future | None = None

    def is_due(self, num_bytes: int) -> bool:
        """Count bytes of text as converted; True where a journal should be written now."""
        self._unwritten += num_bytes
        return self._unwritten >= self._interval

    def write(self, journal: Journal, files: Sequence[pathlib.Path] = ()) -> None:
        """Replace the journal, once what it tells of in `files` has reached the disk."""
        self.wait()
        self._unwritten = 0
        self._last = self._thread.submit(_write, self.path, journal, files)

    def wait(self) -> None:
        """Until the last one is on the disk; raises what went wrong with it."""
        if self._last is not None:
            self._last.result()

    @property
    def kept(self) -> bool:
        """Whether there is one, of this process or of the one before."""
        self.wait()
        return self.path.exists()

    def remove(self) -> None:
        """For when there is nothing to go on with any more."""
        self.wait()
        self.path.unlink(missing_ok=True)

    def __exit__(self, *_) -> None:
        self._thread.shutdown(cancel_futures=True)


def _write(path: pathlib.Path, journal: Journal, files: Sequence[pathlib.Path]) -> None:
    from pipeline.files import write_bytes_atomically  # its imports would be a fiftieth of a small conversion's work

    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    text = json.dumps(dataclasses.asdict(journal)).encode()
    write_bytes_atomically(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
