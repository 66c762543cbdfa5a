"""Files and directories that are either complete or absent: written beside their place, then renamed into it."""

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence

from pipeline.errors import InputError
from pipeline.remote import as_path, is_remote, open_stream, upload

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of some network file systems
_WORKSPACE = re.compile(r"\.(?P<name>.+)\.partial-[0-9a-f]{8}")
_LOCK, _OLD = ".writer-lock", ".replaced"  # in a workspace
_READ_BYTES = 4 << 20


@contextlib.contextmanager
def replacing(path: str | os.PathLike, size: int | None = None) -> Iterator[pathlib.Path]:
    """Give a temporary path of the same name; the file or directory written there becomes `path` at the end.

    If the body raises, it is removed and `path` stays unchanged. Once this returns, the new content is on the disk
    under its name, even after a power failure, or in its object store. `size` is its bytes, if known, for the message
    if they do not fit.

    Raises:
        InputError: `path` is neither a regular file nor a directory, or not of the kind that was written; or the disk
            or the quota is full, or the file is larger than allowed.
    """
    path = as_path(path)
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder) / path.name
            upload(pathlib.Path(folder) / path.name, path)
        return
    if not path.is_dir():
        check_writable_file(path)
    with _locked_workspace(path) as workspace:
        temporary = workspace / path.name  # with the suffix, by which some writers choose their format
        with full_disk_explained(path, temporary, size):
            yield temporary
            if temporary.is_dir():
                publish_directory(temporary, path, lambda _: None)
            else:
                _sync(temporary)
                check_writable_file(path)  # again: a device or a FIFO may have appeared there meanwhile
                temporary.replace(path)
                _sync(path.parent)  # the name is an entry of the directory, which is flushed apart from the file


@contextlib.contextmanager
def replacing_all(paths: Sequence[pathlib.Path]) -> Iterator[dict[pathlib.Path, pathlib.Path]]:
    """`replacing` for several files: if one cannot be published, those that did not exist before are removed again."""
    absent = [path for path in paths if not path.exists()]
    temporaries: dict[pathlib.Path, pathlib.Path] = {}
    published: list[pathlib.Path] = []
    try:
        with contextlib.ExitStack() as stack:
            for path in paths:
                # Called after the end of this path's `replacing`; None: no exception, so it was published.
                stack.push(lambda kind, *_, path=path: published.append(path) if kind is None else None)
                temporaries[path] = stack.enter_context(replacing(path))
            yield temporaries
    except BaseException:
        # Those that existed are replaced already, and their old content is gone.
        for path in set(absent).intersection(published):
            path.unlink()
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` as UTF-8, line ends unchanged; no reader sees half of it."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, data: bytes | memoryview) -> None:
    """Write `data` to `path`; no reader sees half of it."""
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)


def check_output_file(path: pathlib.Path) -> None:
    """`check_writable_file`, and InputError if its directory is missing; a store has no directories."""
    if not is_remote(path) and not path.parent.is_dir():
        raise InputError(f"{path}: no directory {path.parent}; create it first")
    check_writable_file(path)


def check_writable_file(path: str | os.PathLike) -> None:
    """Raise InputError if `path` exists and is not a regular file: replacing a device or a FIFO would destroy it."""
    kind = None if is_remote(path) else _kind(pathlib.Path(path))
    if kind not in (None, "a regular file"):
        raise InputError(f"{path}: {kind}, not a regular file; choose another path")


def publish_directory(
    temporary: pathlib.Path, path: pathlib.Path, check_old: Callable[[pathlib.Path], None] | None = None
) -> None:
    """Give a complete directory its final name, flushed to the disk; no other content is ever lost.

    `temporary` must be on the file system of `path`. `check_old` allows a directory at `path` to be replaced: it is
    called with that directory once it is moved aside, where no other program finds it, and raises InputError to keep
    it.

    Raises:
        InputError: `path` exists and may not be replaced; it is unchanged.
    """
    # A rename can reach the disk before the data does: without this a power failure could leave empty files.
    for inner in temporary.rglob("*"):
        _sync(inner)
    _sync(temporary)
    with _locked_workspace(path) as workspace:
        kind, old = _kind(path), workspace / _OLD
        if kind is not None and (check_old is None or kind != "a directory"):
            raise InputError(f"{path}: {kind} that may not be replaced; move it away, or choose another path")
        try:
            if kind is not None and check_old is not None:
                path.rename(old)  # because rename(2) does not replace a directory that holds files
                check_old(old)
            temporary.rename(path)
        except BaseException as error:
            if old.exists():
                _move_back(old, path)
            if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise InputError(f"{path}: created by another program meanwhile; move it away") from error
            raise
        _sync(path.parent)


def remove_stale(directory: str | os.PathLike) -> None:
    """Remove what killed processes left in a directory by `replacing`; those that still run keep theirs.

    An old directory that was moved aside for a new one that never came is moved back.
    """
    for workspace in sorted(pathlib.Path(directory).glob(".*.partial-*")):
        match = _WORKSPACE.fullmatch(workspace.name)
        if match is None or workspace.is_symlink():
            continue
        if not (workspace / _LOCK).is_file():
            # Of a process killed before its lock if it is empty; else it is someone's own directory of such a name.
            with contextlib.suppress(OSError):
                workspace.rmdir()
            continue
        # InputError: its process lives. OSError: its process, or another remove_stale, was faster.
        with contextlib.suppress(InputError, OSError), locked(workspace / _LOCK, "in use") as exclusive:
            if exclusive:
                old, place = workspace / _OLD, workspace.with_name(match["name"])
                if old.exists() and not os.path.lexists(place):
                    old.rename(place)
                remove(workspace)


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str) -> Iterator[bool]:
    """Hold a lock on the file `path` within the block; the kernel releases it even after SIGKILL.

    The file is created if needed and stays, unless the block removes it, which is safe.

    Yields:
        Whether it is locked: False if the file system does not support locks.

    Raises:
        InputError: another process holds the lock; the message is `busy`.
    """
    import filelock  # here, because its import takes longer than what most commands do before

    while True:
        at_path: list[bool] = []

        def look(handle: int, seen: list[bool] = at_path) -> None:
            with contextlib.suppress(FileNotFoundError):
                seen.append(os.path.samestat(os.fstat(handle), pathlib.Path(path).stat()))

        lock = filelock.FileLock(
            path,
            timeout=0,
            thread_local=False,
            fallback_to_soft=False,  # a soft lock outlives its process
            preserve_lock_file=True,
            on_acquired=look,
        )
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise InputError(busy) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield False
            return
        try:
            if any(at_path):  # else its last holder removed or moved it between the lock's open and its lock
                yield True
                return
        finally:
            lock.release()


@contextlib.contextmanager
def full_disk_explained(path: pathlib.Path, written: pathlib.Path, size: int | None = None) -> Iterator[None]:
    """Turn a full disk into InputError with the bytes needed and free, and name `path` in errors without a file.

    `written` is the file or directory that the bytes went to so far, which is removed if the disk is full; `size` is
    the bytes that it takes, if known.
    """
    try:
        yield
    except Exception as error:
        file = getattr(error, "filename", None)
        if isinstance(error, InputError) and not str(error).startswith(str(written)):
            raise  # another file's, explained already
        # The words, because HDF5 and TensorFlow do not pass on the number.
        reason = next((text for text in map(os.strerror, _FULL) if text in str(error)), None)
        if reason is not None:
            so_far = sum(file.stat().st_size for file in (written, *written.rglob("*")) if file.is_file())
            needed = f"{size:,} bytes" if size is not None else f"more than {so_far:,} bytes"
            remove(written)  # first, so that what it took counts as free
            free = shutil.disk_usage(path.parent).free
            raise InputError(
                f"{path}: {reason}; it takes {needed} and {free:,} are free there; make room and try again"
            ) from error
        # A failed write() names no file, and the temporary name tells the user nothing.
        if isinstance(error, OSError) and (str(file).startswith(str(written)) or (error.errno and file is None)):
            error.filename = str(path)
        raise


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_stream(as_path(path)) as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def remove(path: pathlib.Path) -> None:
    """Remove a file, a symlink (not its target) or a directory with all its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked_workspace(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A hidden directory beside `path`, removed at the end; its lock tells `remove_stale` that its process lives."""
    workspace = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    with contextlib.ExitStack() as stack:
        # Errors are ignored because remove_stale may be looking into it; it then removes the rest.
        stack.callback(shutil.rmtree, workspace, ignore_errors=True)
        is_ours = False
        while not is_ours:
            # remove_stale may come between the creation of the lock's file and its lock.
            with full_disk_explained(path, workspace):
                workspace.mkdir(exist_ok=True)
                with contextlib.suppress(InputError, FileNotFoundError):
                    stack.enter_context(locked(workspace / _LOCK, "in use"))
                    is_ours = True
        yield workspace


def _move_back(old: pathlib.Path, path: pathlib.Path) -> None:
    try:
        old.rename(path)
    except OSError as error:
        kept = path.with_name(f"{path.name}.old-{secrets.token_hex(4)}")
        old.rename(kept)
        raise InputError(f"{path}: replaced by another program meanwhile; its earlier content is now {kept}") from error


def _kind(path: pathlib.Path) -> str | None:
    if path.is_symlink():
        return "a symbolic link"
    if path.is_dir() or path.is_file():
        return "a directory" if path.is_dir() else "a regular file"
    return "a device or a FIFO" if path.exists() else None


def _sync(path: pathlib.Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a directory
    # Windows flushes only what may be written.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a directory.
        if not (error.errno == errno.EINVAL and path.is_dir()):
            raise
    finally:
        os.close(handle)
