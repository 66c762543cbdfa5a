"""The text of a CSV file, plain or compressed (.gz, .zip, .bz2, .xz, .zst); corrupt files and bombs are one line."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline.errors import InputError, shorten

_OTHER_ARCHIVES = (b"7z\xbc\xaf", b"Rar!")
# Real image CSVs shrink to a tenth, mostly empty images to a thirtieth; deflate's bound, and so a bomb's, is 1032.
_MAX_RATIO = 200
_FREE_BYTES = 64 << 20  # a small file may have any ratio: this much is read in a second
_MAX_WINDOW = 1 << 27  # bytes of memory that a .zst or .xz may ask for; zstd -19 needs 8 MiB, xz -9 64 MiB


@contextlib.contextmanager
def open_text(path: pathlib.Path) -> Iterator[tuple[BinaryIO, bool]]:
    """(the file's text, whether it can be entered anywhere), decompressed if the file begins like a compressed one.

    Raises:
        InputError: the file cannot be opened, or its compression is not supported. While it is read: it is corrupt, or
            expands beyond what a CSV does.
    """
    try:
        raw = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic.startswith(_OTHER_ARCHIVES):
            raise InputError(f"{path}: this kind of archive is not supported; unpack it, or use .gz, .bz2, .xz or .zst")
        unpack = next((open_ for start, open_ in _FORMATS.items() if magic.startswith(start)), None)
        if unpack is None:
            yield raw, True
        else:
            with unpack(path, raw) as stream:
                yield _Limited(path, stream), False


class _Limited(io.RawIOBase):
    """A stream of decompressed text that ends in an error if it is longer than a file of its size can mean."""

    def __init__(self, path: pathlib.Path, stream: BinaryIO) -> None:
        self._path, self._stream = path, stream
        self._left = max(_FREE_BYTES, path.stat().st_size * _MAX_RATIO)

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._left -= count
        if self._left < 0:
            raise InputError(
                f"{self._path}: unpacks to more than {_MAX_RATIO} times its size, as no CSV of images does; "
                "if it is valid, unpack it yourself"
            )
        return count


def _corrupt(path: pathlib.Path, kind: str, error: object) -> InputError:
    return InputError(f"{path}: corrupt {kind} file ({shorten(str(error))}); get it again")


# The modules are imported where they are needed: a plain CSV does not wait for them.


@contextlib.contextmanager
def _gunzip(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    import gzip
    import zlib

    try:
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _corrupt(path, "gzip", error) from error


@contextlib.contextmanager
def _bunzip2(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    import bz2

    try:
        with bz2.BZ2File(raw) as stream:
            yield stream  # type: ignore[misc]
    except (EOFError, ValueError, OSError) as error:
        if isinstance(error, InputError) or getattr(error, "errno", None) is not None:
            raise
        raise _corrupt(path, "bzip2", error) from error


@contextlib.contextmanager
def _unxz(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    import lzma

    try:
        with lzma.LZMAFile(raw) as stream:
            yield stream  # type: ignore[misc]
    except (EOFError, lzma.LZMAError, MemoryError) as error:
        raise _corrupt(path, "xz", error) from error


@contextlib.contextmanager
def _unzstd(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    try:
        with unpacker.stream_reader(raw, read_across_frames=True) as stream:
            yield stream  # type: ignore[misc]
    except zstandard.ZstdError as error:
        raise _corrupt(path, "zstd", error) from error


class _WithinFile:
    """A file for zipfile, which trusts the lengths in an archive: no read asks for more than the file has."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._size = os.fstat(raw.fileno()).st_size
        self.seek, self.tell, self.seekable = raw.seek, raw.tell, raw.seekable

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(min(size, self._size) if size >= 0 else self._size)


@contextlib.contextmanager
def _unzip(path: pathlib.Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    import zipfile
    import zlib

    try:
        with contextlib.ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(_WithinFile(raw)))  # type: ignore[arg-type]
                stream = stack.enter_context(archive.open(_only_csv(path, archive)))
            except InputError:
                raise
            except RuntimeError as error:  # what zipfile raises for a password
                raise InputError(f"{path}: cannot be unzipped ({error})") from error
            except (ValueError, OSError, NotImplementedError) as error:  # of impossible lengths, places and names
                raise zipfile.BadZipFile(error) from error
            yield stream  # type: ignore[misc]
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _corrupt(path, "zip", error) from error


def _only_csv(path: pathlib.Path, archive: Any) -> Any:
    """The entry of the one CSV in a zip."""
    import zipfile

    entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".csv")]
    entries = [entry for entry in entries if not entry.filename.startswith("__MACOSX/")]
    if len(entries) != 1:
        names = ", ".join(shorten(entry.filename) for entry in entries[:5]) or "none"
        raise InputError(f"{path}: a zip must hold exactly one CSV, it holds {len(entries)} ({names})")
    if entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path}: its compression method is not supported; unpack it, or zip it with deflate")
    return entries[0]


_FORMATS = {
    b"\x1f\x8b": _gunzip,
    b"PK\x03\x04": _unzip,
    b"PK\x05\x06": _unzip,
    b"BZh": _bunzip2,
    b"\xfd7zXZ\x00": _unxz,
    b"\x28\xb5\x2f\xfd": _unzstd,
}
