"""Files that are either complete or absent: written beside their place, then renamed into it."""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Give a temporary path in the directory of `path`; what was written there becomes `path` at the end.

    It may be written as a file or as a directory. If the body raises, it is removed and `path` stays as it was. The
    suffix of `path` is kept, because some writers choose their format by it.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if temporary.is_dir():
            _replace_directory(temporary, path)
        else:
            _flush_to_disk(temporary)
            temporary.replace(path)
    finally:
        _remove(temporary)


def write_text_atomically(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` as UTF-8 with its line ends as they are; nobody sees half of it."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path`; nobody sees half of it."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _replace_directory(temporary: pathlib.Path, path: pathlib.Path) -> None:
    # rename(2) takes no directory's place unless it is empty, so an old one is moved away first.
    old = temporary.with_name(temporary.name + ".old")
    if path.exists():
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    _remove(old)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: pathlib.Path) -> None:
    # A rename can reach the disk before the data does: without this a power cut could leave an empty file.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
