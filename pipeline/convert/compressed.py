"""The text of a CSV file, plain or compressed (.gz, .zip, .bz2, .xz, .zst); corrupt files and bombs are one line."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline.errors import InputError, shorten

_OTHER_ARCHIVES = (b"7z\xbc\xaf", b"Rar!")
# Real image CSVs shrink to a tenth, mostly empty images to a thirtieth; deflate's bound, and so a bomb's, is 1032.
_MAX_RATIO = 200
_FREE_BYTES = 64 << 20  # a small file may have any ratio: this much is read in a second


@contextlib.contextmanager
def open_text(path: pathlib.Path) -> Iterator[tuple[io.RawIOBase, bool]]:
    """(the file's text, whether it is seekable), decompressed if the file begins like a compressed one.

    Raises:
        InputError: the file cannot be opened, or its compression is not supported. While it is read: it is corrupt, or
            expands beyond what a CSV does.
    """
    try:
        raw = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with raw:
        magic = raw.read(6) or b""
        raw.seek(0)
        unpacked = _unpack(path, raw, magic)
        if unpacked is None:
            yield raw, True
        else:
            with unpacked:
                yield unpacked, False


class _Unpacked(io.RawIOBase):
    """Decompressed text, whose errors are one line; text larger than any CSV of its file's size is an error too."""

    def __init__(self, path: pathlib.Path, kind: str, stream: Any, errors: tuple[type[Exception], ...]) -> None:
        self._path, self._kind, self._stream, self._errors = path, kind, stream, errors
        self._left = max(_FREE_BYTES, path.stat().st_size * _MAX_RATIO)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; 0 at the end."""
        try:
            count = self._stream.readinto(buffer)
        except self._errors as error:
            raise _corrupt(self._path, self._kind, error) from error
        self._left -= count
        if self._left < 0:
            raise InputError(
                f"{self._path}: unpacks to more than {_MAX_RATIO} times its size, as no CSV of images does; "
                "if it is valid, unpack it yourself"
            )
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _corrupt(path: pathlib.Path, kind: str, error: object) -> InputError:
    return InputError(f"{path}: corrupt {kind} file ({shorten(str(error))}); get it again")


def _unpack(path: pathlib.Path, raw: BinaryIO, magic: bytes) -> _Unpacked | None:
    """The stream for a file that begins with `magic`; None if that is not compressed."""
    # Each module is imported only if needed: a plain CSV does not wait for them.
    if magic.startswith(b"\x1f\x8b"):
        import gzip
        import zlib

        return _Unpacked(path, "gzip", gzip.GzipFile(fileobj=raw), (EOFError, zlib.error, gzip.BadGzipFile))
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _unzip(path, raw)
    if magic.startswith(b"BZh"):
        import bz2

        return _Unpacked(path, "bzip2", bz2.BZ2File(raw), (EOFError, OSError, ValueError))
    if magic.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return _Unpacked(path, "xz", lzma.LZMAFile(raw), (EOFError, lzma.LZMAError, MemoryError))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        from backports import zstd  # what Python 3.14 calls compression.zstd

        return _Unpacked(path, "zstd", zstd.ZstdFile(raw), (EOFError, zstd.ZstdError))
    if magic.startswith(_OTHER_ARCHIVES):
        raise InputError(f"{path}: this kind of archive is not supported; unpack it, or use .gz, .bz2, .xz or .zst")
    return None


def _unzip(path: pathlib.Path, raw: BinaryIO) -> _Unpacked:
    import zipfile
    import zlib

    try:
        archive = zipfile.ZipFile(raw)
        stream = archive.open(_only_csv(path, archive))
    except InputError:
        raise
    except RuntimeError as error:  # what zipfile raises for a password
        raise InputError(f"{path}: cannot be unzipped ({error})") from error
    except (ValueError, OSError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise _corrupt(path, "zip", error) from error
    return _Unpacked(path, "zip", stream, (EOFError, zlib.error, zipfile.BadZipFile))


def _only_csv(path: pathlib.Path, archive: Any) -> Any:
    """The entry of the one CSV in a zip."""
    import zipfile

    entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".csv")]
    # macOS adds a hidden entry for each file.
    entries = [entry for entry in entries if not entry.filename.startswith("__MACOSX/")]
    if len(entries) != 1:
        names = ", ".join(shorten(entry.filename) for entry in entries[:5]) or "none"
        raise InputError(f"{path}: a zip must hold exactly one CSV, it holds {len(entries)} ({names})")
    if entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path}: its compression method is not supported; unpack it, or zip it with deflate")
    return entries[0]
