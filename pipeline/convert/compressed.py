"""The text of a CSV file, whether it is plain, .gz or .zip; what is damaged or a bomb is one line."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.errors import InputError, shorten

_OTHER_ARCHIVES = (b"\xfd7zX", b"BZh", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!")  # xz, bzip2, zstd, 7z, rar
# Real image CSVs shrink to a tenth, mostly empty images to a thirtieth; deflate's bound, and so a bomb's, is 1032.
_MAX_RATIO = 200
_FREE_BYTES = 64 << 20  # a small file may be what it likes: this much is read in a second


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """(the file itself, its text): the same unless the file begins as .gz or .zip files do.

    Raises:
        InputError: the file cannot be opened or unpacked, or it is compressed in another way. While it is read: it is
            damaged, or expands beyond what a CSV does.
    """
    try:
        raw = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(raw)
        magic = raw.read(4)
        raw.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            yield raw, _Expanding(path, stack.enter_context(_gunzipped(path, raw)))
        elif magic.startswith(b"PK\x03\x04") or magic == b"PK\x05\x06":
            yield raw, _Expanding(path, stack.enter_context(_unzipped(path, raw)))
        elif magic.startswith(_OTHER_ARCHIVES):
            raise InputError(f"{path}: compressed in a way that is not read; unpack it, or use .gz or .zip")
        else:
            yield raw, raw


class _Expanding(io.RawIOBase):
    """A stream of unpacked text that ends in an error where there is more than a file of its size can mean."""

    def __init__(self, path: pathlib.Path, stream: BinaryIO):
        self._path, self._stream = path, stream
        self._left = max(_FREE_BYTES, path.stat().st_size * _MAX_RATIO)

    def readinto(self, buffer: memoryview) -> int:  # which read() is made of
        count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise InputError(
                f"{self._path}: unpacks to more than {_MAX_RATIO} times its size, as no CSV of images does; "
                "if it is sound, unpack it yourself"
            )
        return count


@contextlib.contextmanager
def _gunzipped(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    # Imported where needed: a plain CSV does not wait for them.
    import gzip
    import zlib

    try:
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged gzip file ({error}); get it again") from error


class _WithinFile:
    """A file for zipfile, which believes the lengths that an archive states: no read asks for more than there is."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw
        self._size = os.fstat(raw.fileno()).st_size
        self.seek, self.tell, self.seekable = raw.seek, raw.tell, raw.seekable

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(min(size, self._size) if size >= 0 else self._size)


@contextlib.contextmanager
def _unzipped(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    import zipfile
    import zlib

    try:
        with contextlib.ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(_WithinFile(raw)))
                stream = stack.enter_context(archive.open(_only_csv(path, archive)))
            except InputError:
                raise
            except RuntimeError as error:  # what zipfile raises for a password
                raise InputError(f"{path}: cannot be unzipped ({error})") from error
            except (ValueError, OSError, NotImplementedError) as error:  # of lengths, places and names that cannot be
                raise zipfile.BadZipFile(error) from error
            yield stream
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged zip file ({shorten(str(error))}); get it again") from error


def _only_csv(path: pathlib.Path, archive):
    """The entry of the one CSV in a zip."""
    import zipfile

    found = [each for each in archive.infolist() if each.filename.lower().endswith(".csv")]
    found = [each for each in found if not each.filename.startswith("__MACOSX/")]
    if len(found) != 1:
        names = ", ".join(shorten(each.filename) for each in found[:5]) or "none"
        raise InputError(f"{path}: a zip must hold exactly one CSV, it holds {len(found)} ({names})")
    if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path}: compressed in a way that is not read; unpack it, or zip it with deflate")
    return found[0]
