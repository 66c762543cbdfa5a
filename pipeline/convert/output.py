"""A data set's directory: filled beside its place by one process at a time, published when it is complete."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from pipeline.errors import InputError, size_text
from pipeline.files import full_disk_explained, locked, publish_directory, remove_stale
from pipeline.format.manifest import FILE_NAME, load_manifest
from pipeline.format.tfds_metadata import FILE_NAMES


@contextlib.contextmanager
def new_directory(out: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """Give a temporary sibling to fill; it becomes `out` when the block ends without an error.

    After an error or Ctrl-C it is removed, and `out` is as it was. It stays after SIGKILL and SIGTERM, when the machine
    ends the process and not a user who cancels, and the next call gives it again with its content. With `overwrite` an
    old data set stays until the new one is complete.

    Raises:
        InputError: `out` exists and may not be replaced, another process is writing it, or the disk is full.
    """
    target = pathlib.Path(os.path.realpath(out))
    check_replaceable(target, out, overwrite)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_parents(target.parent))
        busy = f"{out}: another conversion is writing it; wait for it or choose another --out"
        stack.enter_context(lock_target(target, out, busy))
        remove_stale(target.parent)  # moves an old data set back if a process was killed while replacing it
        check_replaceable(target, out, overwrite)
        partial = target.with_name(f".{target.name}.partial")
        if partial.is_symlink() or partial.is_file():
            partial.unlink()
        partial.mkdir(exist_ok=True)
        try:
            with full_disk_explained(pathlib.Path(out), partial):
                yield partial
                publish_directory(partial, target, (lambda old: _check_old(old, out)) if overwrite else None)
        except SystemExit:
            raise
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def check_replaceable(target: pathlib.Path, out: str | os.PathLike, overwrite: bool) -> None:
    """Refuse a target that exists, or with `overwrite` one that holds anything but a data set.

    Raises:
        InputError: it may not be replaced.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise InputError(f"{out}: exists and is not a directory; choose another --out")
    if not overwrite:
        raise InputError(f"{out}: exists; choose another --out, or use --overwrite to replace it once all is done")
    if any(target.iterdir()):
        _check_old(target, out)


def check_space(out: str | os.PathLike, directory: pathlib.Path, num_bytes: int) -> None:
    """Refuse what cannot fit, `num_bytes` in all; what `directory` holds already counts as written.

    Raises:
        InputError: fewer bytes are free than are still needed.
    """
    needed, free = num_bytes - _bytes_in(directory), shutil.disk_usage(directory).free
    if free < needed:
        raise InputError(
            f"{out}: needs {size_text(needed)}, but {size_text(free)} are free; make room or choose another --out"
        )


def _check_old(directory: pathlib.Path, out: str | os.PathLike) -> None:
    """Raise InputError unless the directory is empty or holds the files of a data set, and nothing else."""
    if not any(directory.iterdir()):
        return
    if not (directory / FILE_NAME).is_file():
        raise InputError(f"{out}: has no {FILE_NAME}, so it is not a data set; --overwrite does not touch it")
    try:
        manifest = load_manifest(directory)
    except InputError as error:
        raise InputError(f"{out}: its {FILE_NAME} cannot be read, so it may not be a data set; move it away") from error
    sizes = {shard.name: shard.num_bytes for split in manifest.splits.values() for shard in split.shards}
    for entry in sorted(directory.iterdir()):
        ours = entry.name in sizes or entry.name in (FILE_NAME, *FILE_NAMES)
        if not ours or entry.is_symlink() or not entry.is_file():
            raise InputError(f"{out}: {entry.name} in it is not of the data set; move it away before --overwrite")


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
            with contextlib.suppress(OSError):  # it is in use by now
                path.rmdir()
        raise


@contextlib.contextmanager
def lock_target(target: pathlib.Path, out: str | os.PathLike, busy: str) -> Iterator[None]:
    """Hold the lock of a data set's directory; InputError(busy) if another process has it."""
    path = target.with_name(f".{target.name}.lock")
    try:
        lock = locked(path, busy)
        with lock:
            yield
            path.unlink(missing_ok=True)
    except PermissionError as error:
        if error.filename != str(path):
            raise
        raise InputError(f"{out}: {error.strerror}; choose another --out") from error


def _bytes_in(directory: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())
