"""Places in a file from which another process may read on, proven by the hash of what lies before them."""

import dataclasses
import hashlib
import os
import pathlib
import sys
from typing import Any, BinaryIO

_READ_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class Position:
    """A place between two lines: the bytes of text, the lines and the rows before it.

    `sha256` is that of the first `hashed_bytes` on disk: those before the place, or all of a compressed file.
    """

    offset: int
    num_lines: int
    num_rows: int
    hashed_bytes: int
    sha256: str
    finished: bool = False


@dataclasses.dataclass(frozen=True)
class Start:
    """A position that was proven to be there, and the hashlib object of the bytes before it."""

    position: Position
    digest: Any


def verify(path: pathlib.Path, position: Position) -> Start | None:
    """Where to read on in a file for a position of an earlier process; None if the bytes are others now."""
    digest = hash_of(path, position.hashed_bytes)
    return Start(position, digest) if digest.hexdigest() == position.sha256 else None


def hash_of(path: str | os.PathLike, num_bytes: int = sys.maxsize):
    """The hashlib object (SHA-256) of a file's first bytes, which can take what follows them."""
    digest = hashlib.sha256()
    with pathlib.Path(path).open("rb", buffering=0) as file:
        while data := file.read(min(num_bytes, _READ_BYTES)):
            digest.update(data)
            num_bytes -= len(data)
    return digest


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hash_of(path).hexdigest()


def skip_text(raw: BinaryIO, text: BinaryIO, num_bytes: int) -> None:
    """Go to a place in the text of a file; where it is compressed the way there is to read."""
    if text is raw:
        raw.seek(num_bytes)
        return
    while num_bytes and (data := text.read(min(num_bytes, _READ_BYTES))):
        num_bytes -= len(data)
