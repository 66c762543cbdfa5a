"""A data set's directory appears whole or not at all, and one process at a time makes it."""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator

from pipeline.convert.journal import FILE_NAME as JOURNAL
from pipeline.errors import InputError
from pipeline.format.manifest import FILE_NAME
from pipeline.format.manifest_file import load_manifest
from pipeline.format.tfds_metadata import FILE_NAMES


@contextlib.contextmanager
def new_directory(out: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """Give a temporary sibling to fill; it becomes `out` when the block ends well, and goes when it does not.

    What a killed process left there is still in it. SIGTERM leaves it too if a journal makes it of use, because it is
    the machine that ends the process then, and not somebody who has changed his mind.

    Everything is flushed to the disk before the rename, so what has the name is complete even after a power failure.
    With `overwrite` the old data set stays until the new one is complete.

    Raises:
        InputError: `out` exists and may not be replaced, or another process is making it.
    """
    target = pathlib.Path(os.path.realpath(out))
    check_replaceable(target, out, overwrite)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_parents(target.parent))
        stack.enter_context(_lock(target, out))
        partial, old = _sibling(target, "partial"), _sibling(target, "old")
        _recover(target, partial, old)
        check_replaceable(target, out, overwrite)
        partial.mkdir(exist_ok=True)
        try:
            yield partial
            _sync_directory(partial)
            if target.exists():
                target.rename(old)
            partial.rename(target)
            _sync_directory(target.parent)
        except BaseException as error:
            if not (isinstance(error, SystemExit) and (partial / JOURNAL).exists()):
                shutil.rmtree(partial, ignore_errors=True)
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def check_replaceable(target: pathlib.Path, shown: str | os.PathLike, overwrite: bool) -> None:
    """Refuse what exists, or with `overwrite` what is not purely a data set of ours.

    Raises:
        InputError: it may not be replaced.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise InputError(f"{shown}: exists and is not a directory; choose another --out")
    if not overwrite:
        raise InputError(f"{shown}: exists; choose another --out, or say --overwrite to replace it when all is done")
    if not any(target.iterdir()):
        return
    if not (target / FILE_NAME).is_file():
        raise InputError(f"{shown}: has no {FILE_NAME}, so it is no data set of ours; --overwrite does not touch it")
    try:
        manifest = load_manifest(target)
    except InputError as error:
        raise InputError(f"{shown}: its {FILE_NAME} cannot be read, so it may not be ours; move it away") from error
    shards = {shard.name for split in manifest.splits.values() for shard in split.shards}
    foreign = sorted({entry.name for entry in target.iterdir()} - shards - {FILE_NAME, *FILE_NAMES})
    if foreign:
        raise InputError(f"{shown}: {foreign[0]} in it is not of the data set; move it away before --overwrite")


def clear_directory(directory: pathlib.Path, keep: Collection[pathlib.Path] = ()) -> None:
    """Remove all that is in a directory, but some."""
    for path in set(directory.iterdir()).difference(keep):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_file(path: pathlib.Path, text: str) -> None:
    """Write a small text file and flush it to the disk."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sibling(target: pathlib.Path, suffix: str) -> pathlib.Path:
    return target.with_name(f".{target.name}.csv_to_tfrecord-{suffix}")


def _recover(target: pathlib.Path, partial: pathlib.Path, old: pathlib.Path) -> None:
    """Clean up after a run that was killed; the lock is ours, so nobody is at work on these."""
    if old.exists() and not target.exists():
        old.rename(target)
    if old.is_dir():
        shutil.rmtree(old)
    if partial.is_symlink() or partial.is_file():
        partial.unlink()


@contextlib.contextmanager
def _parents(parent: pathlib.Path) -> Iterator[None]:
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{parent}: not a directory; choose another --out") from error
    except OSError as error:
        raise InputError(f"{parent}: {error.strerror}; choose another --out") from error
    try:
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):  # somebody else has put something there
                path.rmdir()
        raise


@contextlib.contextmanager
def _lock(target: pathlib.Path, shown: str | os.PathLike) -> Iterator[None]:
    path = _sibling(target, "lock")
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"{shown}: {error.strerror}; choose another --out") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise InputError(
                f"{shown}: another conversion is writing it; wait for it or choose another --out"
            ) from error
        if _is_same(handle, path):
            break
        os.close(handle)  # its last owner removed it between our open and our lock
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _is_same(handle: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sync_directory(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
