"""Local copies of directories in object stores, for what needs files: TensorFlow, locks, renames.

A `Mirror` is a directory that is worked on locally and stored as it changes; `local_copy` is one that is only read.
`as_given` names a file of either by its URL.
"""

import atexit
import contextlib
import functools
import os
import pathlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

from pipeline.errors import InputError, TryAgainError
from pipeline.remote import REQUESTS, as_path, download, explained, is_remote, upload

_VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")  # of file systems
CONFIG_NAME = "config.json"  # of each run
RESULTS_NAME = "evaluation.json"  # by which a series takes a run for complete, so it is stored last

_origins: dict[pathlib.Path, str] = {}  # what the user calls a local copy


def as_given(path: object) -> str:
    """A path as the user would write it: the URL of which it is a local copy, if it is one."""
    for copy, url in _origins.items():
        if isinstance(path, pathlib.PurePath) and path.is_relative_to(copy):
            return "/".join([url.rstrip("/"), *path.relative_to(copy).parts])
    return str(path)


def with_urls(text: str) -> str:
    """A message in which local copies have the names that the user knows."""
    for copy, url in _origins.items():
        text = text.replace(str(copy), url)
    return text


def note_copy(path: pathlib.Path, original: pathlib.Path) -> None:
    """Let `as_given` name what is in a local directory by the one that it is a copy of."""
    _origins[path] = str(original)


class Mirror:
    """The local directory `path`, empty at first, and `url`, a run or a series in a store. Hidden files stay local.

    One process pushes; others that pull see whole files, of its last push or of the one that is going on.
    """

    def __init__(self, url: pathlib.Path) -> None:
        if not url.name:
            raise InputError(f"{url}: the bucket itself; name a directory in it")
        self.url = url
        folder = tempfile.mkdtemp(prefix="kannada-")
        self._remove = functools.partial(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(self._remove)
        self.path = pathlib.Path(folder) / url.name
        self.path.mkdir()
        note_copy(self.path, url)
        self._local: dict[str, tuple[int, int]] = {}  # what both sides have, by relative path
        self._remote: dict[str, tuple] = {}
        self._lock = threading.Lock()

    def pull(self, ignored: Iterable[str] = ()) -> None:
        """Make the local directory like the stored one, without the folders `ignored`.

        Raises:
            InputError: the store refuses, or what is there is not of a run.
            TryAgainError: it does not answer.
        """
        with self._lock, explained(self.url):
            stored = {
                name: version for name, version in self._list().items() if name.partition("/")[0] not in set(ignored)
            }
            # Before anything is downloaded: another directory may hold terabytes.
            if stored and not any(PurePosixPath(name).match(CONFIG_NAME) and name.count("/") < 2 for name in stored):
                raise InputError(f"{self.url}: not a run directory, it has no {CONFIG_NAME}; name another one")
            changed = [name for name, version in stored.items() if self._remote.get(name) != version]
            self._each(self._download, changed)
            for name in self._local.keys() - stored.keys():
                (self.path / name).unlink(missing_ok=True)
                del self._local[name]
            files = self._files()
            self._local |= {name: files[name] for name in changed if name in files}
            self._remote = stored

    def push(self) -> None:
        """Store what has changed here since the last push or pull, then remove what is gone here.

        Raises:
            InputError: the store refuses.
            TryAgainError: it does not answer.
        """
        with self._lock, explained(self.url):
            files = self._files()
            changed = [name for name, state in files.items() if self._local.get(name) != state]
            last = [name for name in changed if PurePosixPath(name).name == RESULTS_NAME]
            self._each(self._upload, [name for name in changed if name not in last])
            self._each(self._upload, last)
            for name in self._local.keys() - files.keys():
                (self.url / name).unlink(missing_ok=True)
            self._local, self._remote = files, self._list()

    def try_push(self) -> None:
        """`push`, or a warning if the store does not answer: the next push stores what this one could not."""
        try:
            self.push()
        except (InputError, TryAgainError) as error:
            print(f"warning: not stored yet: {error}", file=sys.stderr)

    def finish(self) -> None:
        """`push`, and if that fails, keep the local directory when the program ends.

        Raises:
            TryAgainError: it failed; the message names the local directory.
        """
        try:
            self.push()
        except (InputError, TryAgainError) as error:
            atexit.unregister(self._remove)
            del _origins[self.path]
            raise TryAgainError(f"{error}; {self.path} has what is not stored: copy it to {self.url} first") from error

    def _files(self) -> dict[str, tuple[int, int]]:
        """Time of the last change and bytes of each local file; those that come and go meanwhile are left out."""
        found = {}
        for folder, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (pathlib.Path(folder, name) for name in names if not name.startswith(".")):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    found[path.relative_to(self.path).as_posix()] = status.st_mtime_ns, status.st_size
        return dict(sorted(found.items()))

    def _list(self) -> dict[str, tuple]:
        """What tells one version of a stored file from another, by relative path."""
        store: Any = self.url
        store.fs.invalidate_cache(store.path)
        found = store.fs.find(store.path, detail=True)
        start = len(store.path.rstrip("/")) + 1
        return {
            name[start:]: (info["size"], *(str(info.get(key)) for key in _VERSION_KEYS))
            for name, info in found.items()
            if info["type"] == "file"
        }

    def _download(self, name: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        download(self.url / name, target)

    def _upload(self, name: str) -> None:
        source = self.path / name
        try:
            upload(source, self.url / name)
        except (FileNotFoundError, InputError):
            if source.exists():  # else the training has removed it meanwhile, as an older checkpoint
                raise

    def _each(self, function: Any, names: list[str]) -> None:
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(function, names))


def local_copy(path: pathlib.Path, ignored: Iterable[str] = ()) -> pathlib.Path:
    """The directory itself if it is local, else a copy without the folders `ignored`, removed when the program ends.

    Raises:
        InputError: there are no files under this URL, or the store refuses.
    """
    if not is_remote(path):
        return path
    mirror = Mirror(as_path(path))
    mirror.pull(ignored)
    if not any(mirror.path.iterdir()):
        raise InputError(f"{path}: nothing is stored there; check bucket and name")
    return mirror.path
