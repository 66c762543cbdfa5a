"""A data set's directory: filled beside its place by one process at a time, published when it is complete.

An object store has no rename: there the place itself is filled, and the manifest, written last, makes it a data set.
"""

import contextlib
import errno
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator

from pipeline.errors import InputError, TryAgainError, list_few, size_text
from pipeline.files import full_disk_explained, locked, publish_directory, remove_stale
from pipeline.format.manifest import FILE_NAME, load_manifest
from pipeline.format.text_ids import id_files
from pipeline.format.tfds_metadata import FILE_NAMES
from pipeline.remote import as_path, explained, file_size, is_remote

MARK = ".incomplete"  # in an object store, while a conversion writes there


@contextlib.contextmanager
def new_directory(out: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """Yield a temporary sibling to fill; it becomes `out` when the block ends without an error.

    After an error or Ctrl-C it is removed, and `out` is unchanged. It stays after SIGKILL, SIGTERM and TryAgainError,
    which come from the machine and not from a user who cancels, and the next call yields it with its content. With
    `overwrite` an old data set stays until the new one is complete.

    In an object store it is `out` itself, with a mark that is removed at the end; with `overwrite` the block has to
    remove the old data set, its manifest first. Nothing is locked there.

    Raises:
        InputError: `out` exists and may not be replaced, another process is writing it, or the disk is full.
    """
    if is_remote(out):
        with _marked(as_path(out), overwrite) as directory:
            yield directory
        return
    # Resolved, so that two paths to one directory have one lock and one sibling.
    target = pathlib.Path(os.path.realpath(out))
    with _parents(target.parent), lock_target(target, out):
        remove_stale(target.parent)  # moves an old data set back if a process was killed while replacing it
        _check_replaceable(target, out, overwrite)
        partial = target.with_name(f".{target.name}.partial")
        # Conversions leave directories; a link would send what is written somewhere else.
        if partial.is_symlink() or partial.is_file():
            partial.unlink()
        partial.mkdir(exist_ok=True)
        try:
            with full_disk_explained(pathlib.Path(out), partial):
                yield partial
                # It checks again what is at `target`, which may have appeared during the conversion.
                publish_directory(partial, target, (lambda old: _check_old(old, out)) if overwrite else None)
        except (SystemExit, TryAgainError):
            raise
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextlib.contextmanager
def _marked(target: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """`new_directory` in an object store, where only what an interrupted conversion left is continued.

    An old data set stays until the block removes its manifest. The mark holds the name of the conversion that began
    last: an earlier one that still runs fails at its end, and removes nothing.
    """
    mark, manifest, token = target / MARK, target / FILE_NAME, secrets.token_hex(8).encode()

    def is_ours() -> bool:
        return file_size(mark) is not None and mark.read_bytes() == token

    with explained(target):
        names = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
        if names and (MARK not in names or FILE_NAME in names):
            if not overwrite or FILE_NAME not in names:
                advice = ", or use --overwrite to replace it" if FILE_NAME in names else ""
                raise InputError(f"{target}: not empty, it has {list_few(names, 3)}; choose another --out{advice}")
            _check_old(target, target)
        mark.write_bytes(token)
        try:
            with explained(target):
                yield target
            if not is_ours():
                raise InputError(f"{target}: another conversion began to write there meanwhile, and replaces this one")
        except (SystemExit, TryAgainError):
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                error.filename = tempfile.gettempdir()  # where shards are written before they are stored
            if is_ours():
                for path in [mark] if file_size(manifest) is not None else target.iterdir():
                    path.unlink()
            raise
        mark.unlink()


@contextlib.contextmanager
def lock_target(target: pathlib.Path, out: str | os.PathLike) -> Iterator[None]:
    """Hold the lock of a data set's directory; InputError if another process has it."""
    path = target.with_name(f".{target.name}.lock")
    with locked(path, f"{out}: another process is writing or repairing it; wait for it"):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is locked; `locked` notices that its file was removed


def check_space(out: str | os.PathLike, directory: pathlib.Path, num_bytes: int) -> None:
    """Refuse what cannot fit on a disk, `num_bytes` in all; what `directory` holds already counts as written.

    Raises:
        InputError: fewer bytes are free than are still needed.
    """
    if is_remote(directory):
        return
    needed = num_bytes - sum(path.stat().st_size for path in directory.iterdir())
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise InputError(
            f"{out}: needs {size_text(needed)}, but {size_text(free)} are free; make room or choose another --out"
        )


def _check_replaceable(target: pathlib.Path, out: str | os.PathLike, overwrite: bool) -> None:
    if not os.path.lexists(out) and not target.exists():  # "" is the working directory, but has no entry
        return
    if pathlib.Path(out).is_symlink() or not target.is_dir():
        raise InputError(f"{out}: exists and is not a directory; choose another --out")
    if not overwrite:
        raise InputError(f"{out}: exists; choose another --out, or use --overwrite to replace it once all is done")
    _check_old(target, out)


def _check_old(directory: pathlib.Path, out: str | os.PathLike) -> None:
    """Raise InputError unless the directory is empty or holds the files of a data set, and nothing else."""
    entries = sorted(directory.iterdir())
    if not entries:
        return
    if not (directory / FILE_NAME).is_file():
        raise InputError(f"{out}: has no {FILE_NAME}, so it is not a data set; --overwrite does not touch it")
    try:
        manifest = load_manifest(directory)
    except InputError as error:
        raise InputError(f"{out}: its {FILE_NAME} cannot be read, so it may not be a data set; move it away") from error
    ours = {shard.name for shard in manifest.all_shards} | {FILE_NAME, MARK, *FILE_NAMES, *id_files(manifest)}
    for entry in entries:
        if entry.name not in ours or entry.is_symlink() or not entry.is_file():
            raise InputError(f"{out}: {entry.name} in it is not of the data set; move it away before --overwrite")


@contextlib.contextmanager
def _parents(parent: pathlib.Path) -> Iterator[None]:
    """Create missing parents; after an error, the empty ones are removed again."""
    # Innermost first, the order in which they can be removed again.
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{parent}: {error.strerror}; choose another --out") from error
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):  # it is in use by now
                path.rmdir()
        raise
