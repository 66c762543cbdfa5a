"""Files that are either complete or absent: written beside their place, then renamed into it."""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Iterator

from pipeline.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.partial-[0-9a-f]{8}(?P<suffix>\.[^.]+)?")
_OLD = ".replaced"


@contextlib.contextmanager
def replacing(path: str | os.PathLike, size: int | None = None) -> Iterator[pathlib.Path]:
    """Give a temporary path in the directory of `path`; what was written there becomes `path` at the end.

    It may be written as a file or as a directory. If the body raises, it is removed and `path` stays as it was. The
    suffix of `path` is kept, because some writers choose their format by it. Once this returns, what was written is on
    the disk under its name, also after a power failure.

    Args:
        path: what to write or replace.
        size: bytes that it takes, if known, to be said where they do not fit.

    Raises:
        InputError: the disk or the quota is full, or the file is larger than is allowed.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.partial-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        if temporary.is_dir():
            _replace_directory(temporary, path)
        else:
            temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        if (reason := _why_full(error)) is not None:
            takes = f"{size:,} bytes" if size is not None else f"more than {_bytes_in(temporary):,} bytes"
            _remove(temporary)
            free = shutil.disk_usage(path.parent).free
            raise InputError(
                f"{path}: {reason}; it takes {takes} and {free:,} are free there; "
                "make room, then give the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a failed write() names no file, and nobody knows the temporary one
        raise
    finally:
        _remove(temporary)


def write_text_atomically(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` as UTF-8 with its line ends as they are; nobody sees half of it."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: str | os.PathLike, data: bytes | memoryview) -> None:
    """Write `data` to `path`; nobody sees half of it."""
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)


def remove_stale(directory: str | os.PathLike) -> None:
    """Remove what `replacing` left in a directory where its process was killed; nobody may be writing there.

    A directory that was moved away and whose successor did not come takes its place again.
    """
    for entry in sorted(pathlib.Path(directory).glob(".*")):
        found = _TEMPORARY.fullmatch(entry.name.removesuffix(_OLD))
        if found is None:
            continue
        place = entry.with_name(found["stem"] + (found["suffix"] or ""))
        if entry.name.endswith(_OLD) and not place.exists():
            entry.rename(place)
        else:
            _remove(entry)


def lock_file(path: str | os.PathLike) -> int:
    """Lock `path`, made if need be, and return its descriptor; the lock lasts until that is closed or the process ends.

    Raises:
        BlockingIOError: another process has it.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # it was moved away between our open and our lock


def _is_at(handle: int, path: str | os.PathLike) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), pathlib.Path(path).stat())
    except FileNotFoundError:
        return False


def _replace_directory(temporary: pathlib.Path, path: pathlib.Path) -> None:
    # rename(2) takes no directory's place unless it is empty, so an old one is moved away first.
    old = temporary.with_name(temporary.name + _OLD)
    if path.exists():
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    _remove(old)


def _why_full(error: Exception) -> str | None:
    """The system's words where an error says that something does not fit; HDF5 and TensorFlow pass on no errno."""
    return next((reason for reason in map(os.strerror, _FULL) if reason in str(error)), None)


def _bytes_in(path: pathlib.Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: pathlib.Path) -> None:
    # A rename can reach the disk before the data does: without this a power cut could leave an empty file.
    for inner in path.rglob("*") if path.is_dir() else ():
        _sync(inner)
    _sync(path)


def _sync(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a directory.
        if not (error.errno == errno.EINVAL and path.is_dir()):
            raise
    finally:
        os.close(handle)


# Stand-ins with the names of the rebuilt module, which replaces this file when the rooms are merged.
write_text, write_bytes = write_text_atomically, write_bytes_atomically


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str) -> Iterator[bool]:
    """Hold the lock of `path` within the block; False is yielded if the file system has no locks."""
    try:
        handle = lock_file(path)
    except BlockingIOError as error:
        raise InputError(busy) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        yield False
        return
    try:
        yield True
    finally:
        os.close(handle)
