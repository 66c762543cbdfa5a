"""Paths in object stores, such as s3://bucket/data: as `pathlib.Path`s that have no rename, no lock and no descriptor.

fsspec reads and writes them; its file systems come with the extras `s3` and `gcs`, and memory:// with fsspec itself.
"""

import contextlib
import errno
import logging
import os
import pathlib
import re
import shutil
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import InputError, TryAgainError

if TYPE_CHECKING:
    import numpy as np  # imported by the functions that need it: --help does not wait for it

REQUESTS = 16  # in flight: a request waits some 50 ms for its first byte
_BUFFER_BYTES = 4 << 20  # of one request of a stream
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_MISSPELT = re.compile(r"(s3a?|gs|gcs|file):/", re.IGNORECASE)  # such as s3:/x, which pathlib makes of s3://x
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Packages whose errors are the network's, the store's or the credentials', not ours.
_CLIENTS = ("asyncio", "botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "fsspec")
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Their errors, besides OSErrors, that a retry may cure; by name, because a base class is imported with its package.
_LOST = ("TimeoutError", "HTTPClientError", "ConnectionError", "ClientConnectionError", "ClientPayloadError")
_MAX_REASON = 200  # characters; a store's error may be a web page


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL of an object store, as text or as `as_path` gives it."""
    return not isinstance(path, pathlib.PurePath) and _URL.match(str(path)) is not None


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """A path as an object: `pathlib.Path`, or for a URL one that acts like it.

    Raises:
        InputError: no file system is known for the URL, or its package is not installed, or it is misspelt.
    """
    if str(path).startswith("file://"):
        raise InputError(f"{path}: give a local path without file://")
    if not is_remote(path):
        if _MISSPELT.match(str(path)):
            raise InputError(f"{path}: not a URL; give it as text that begins with s3:// or gs://")
        return pathlib.Path(path)
    scheme = str(path).partition("://")[0]
    extra = _EXTRAS.get(scheme, "s3")
    try:
        # gcsfs logs with a traceback what it then raises, and asyncio the requests that the end of a program cuts off.
        for name in ("gcsfs", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from upath import UPath  # here, because it takes longer to import than what most commands do before

        remote = UPath(re.sub(r"(?<=[^:/])/+$", "", str(path)))
        _ = remote.fs  # imports the package
    except ImportError as error:
        raise InputError(f"{path}: needs another package: python -m pip install -e '.[{extra}]'") from error
    except ValueError as error:
        raise InputError(f"{path}: {scheme}:// is not known; use s3://, gs:// or a local path") from error
    return cast(pathlib.Path, remote)


def read_range(path: pathlib.Path, offset: int, num_bytes: int) -> "np.ndarray":
    """uint8 [n]: bytes of a file from `offset` on, fewer than `num_bytes` at its end; safe from several threads."""
    import numpy as np

    if not is_remote(path):
        # Opens the file each time, so threads share no position and a thousand files hold no descriptors.
        return np.fromfile(path, np.uint8, num_bytes, offset=offset)
    store: Any = path
    with explained(path):
        return np.frombuffer(store.fs.cat_file(store.path, start=offset, end=offset + num_bytes), np.uint8)


def file_bytes(path: pathlib.Path) -> "np.ndarray":
    """uint8 [n]: all bytes of a file, mapped into memory if it is local."""
    import numpy as np

    return np.frombuffer(path.read_bytes(), np.uint8) if is_remote(path) else np.memmap(path, np.uint8, "r")


def file_size(path: pathlib.Path) -> int | None:
    """Bytes of a file; None if there is no such file."""
    if not is_remote(path):
        return path.stat().st_size if path.is_file() else None
    store: Any = path
    with explained(path):
        try:
            info = store.fs.info(store.path)  # UPath.is_file is False for whatever goes wrong
            return info["size"] if info["type"] == "file" else None
        except FileNotFoundError:
            return None


def list_at_once(directory: pathlib.Path) -> None:
    """Ask a store for all sizes in one request, which `file_size` then knows; nothing for a local directory."""
    if is_remote(directory):
        store: Any = directory
        with explained(directory), contextlib.suppress(FileNotFoundError):
            store.fs.ls(store.path, detail=True)


def open_stream(path: pathlib.Path) -> Any:
    """A file's bytes, unbuffered if it is local: an object with read, readinto, seek and close."""
    if not is_remote(path):
        return path.open("rb", buffering=0)
    store: Any = path
    with explained(path):
        return store.fs.open(store.path, "rb", block_size=_BUFFER_BYTES, cache_type="readahead")


def upload(source: pathlib.Path, path: pathlib.Path) -> None:
    """Store a local file or directory under a remote path; each file appears as a whole."""
    store: Any = path
    with explained(path):
        store.fs.put(os.fspath(source), store.path, recursive=source.is_dir())
        store.fs.invalidate_cache(store.parent.path)


def download(path: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a file, remote or local, to a local path."""
    if not is_remote(path):
        shutil.copyfile(path, target)
        return
    store: Any = path
    with explained(path):
        store.fs.get_file(store.path, os.fspath(target))


def fingerprint(path: pathlib.Path) -> tuple[int, int]:
    """(a number that changes when a remote file is replaced, its bytes)."""
    store: Any = path
    with explained(path):
        store.fs.invalidate_cache(store.parent.path)
        info = store.fs.info(store.path)
        if info["type"] == "directory":
            raise InputError(f"{path}: a folder; give a file, or copy the folder here first")
        return int(store.fs.ukey(store.path)[:15], 16), info["size"]


@contextlib.contextmanager
def explained(path: object) -> Iterator[None]:
    """Turn an error of a store, of its client or of the network into one line.

    Raises:
        InputError: the path is missing or access is denied, or the store cannot be reached with these credentials.
        TryAgainError: the store failed or did not answer.
    """
    try:
        yield
    except (InputError, TryAgainError):
        raise
    except OSError as error:
        if error.filename is not None or error.errno in _OF_THE_DISK or not is_remote(cast(Any, path)):
            raise  # about a local file: fsspec's errors have no file name
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: no such file; check bucket and name") from error
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: access denied; check the credentials and the rights of the bucket") from error
        raise TryAgainError(f"{path}: {_reason(error)}; run the command again") from error
    except Exception as error:
        reason = _reason(error)
        if not _is_clients(error):
            raise
        if any(kind.__name__ in _LOST for kind in type(error).__mro__):
            raise TryAgainError(f"{path}: {reason}; check the address, and run the command again") from error
        raise InputError(f"{path}: {reason}; check the address and the credentials") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__


def _is_clients(error: Exception) -> bool:
    """Whether a client defines the error, or raised it: botocore has ValueErrors for addresses and credentials."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    modules = type(error).__module__, frame.f_globals["__name__"]
    return any(module.partition(".")[0] in _CLIENTS for module in modules)
