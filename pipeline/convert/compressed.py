"""The content of a file, plain or compressed (.gz, .bz2, .xz, .zst), or of a zip's member; errors are one line."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from pipeline.convert.kinds import HEAD_BYTES, PICTURE_SUFFIXES
from pipeline.errors import InputError, list_few, shorten
from pipeline.remote import as_path, file_size, is_remote, open_stream

ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
# Real data shrink to a tenth, mostly empty images to a thirtieth; deflate's bound, and so a bomb's, is 1032.
_MAX_RATIO = 200
_FREE_BYTES = 64 << 20  # a small file may have any ratio: this much is read in a second
_SHOWN_MEMBERS = 8
# What a zip is by the names within, for formats that are zips.
_KINDS = {
    "xl/workbook.xml": ("an Excel workbook", "save it as CSV"),
    "data.pkl": ("a PyTorch file, a pickle, which can run code when it is loaded", "save its arrays with numpy.savez"),
    "model.weights.h5": ("a Keras model", "give data"),
}


def split_member(path: str | os.PathLike) -> tuple[pathlib.Path, str | None]:
    """File and member of FILE:MEMBER, such as x.zip:train.csv; no member if a file has the whole name."""
    text = str(path)
    first = text.index("://") + 1 if is_remote(path) else 0
    if not first and (":" not in text or pathlib.Path(text).exists()):
        return pathlib.Path(text), None
    places = [place for place, letter in enumerate(text) if letter == ":" and place >= first]
    place = next((place for place in places if file_size(as_path(text[:place])) is not None), None)
    return (as_path(text), None) if place is None else (as_path(text[:place]), text[place + 1 :])


@contextlib.contextmanager
def open_text(path: str | os.PathLike) -> Iterator[tuple[io.RawIOBase, bool]]:
    """(the content, whether it is seekable) of a file or of FILE:MEMBER, decompressed if it is compressed.

    Raises:
        InputError: the file cannot be opened, or its compression is not supported. While it is read: it is corrupt, or
            expands beyond what data do.
    """
    file, member = split_member(path)
    try:
        raw = open_stream(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with raw:
        magic = raw.read(6) or b""
        raw.seek(0)
        if member is not None and not magic.startswith(ZIP_STARTS):
            raise InputError(f"{path}: {file.name} is not a zip, so it has no member {shorten(member)}")
        unpacked = _unpack(file, raw, magic, member)
        if unpacked is None:
            yield raw, True
        else:
            with unpacked:
                yield unpacked, False


def read_exactly(stream: io.RawIOBase, num_bytes: int) -> bytes:
    """The next `num_bytes` of a stream, fewer at its end; memory follows what is there, not what was asked for."""
    parts, left = [], num_bytes
    while left:
        part = stream.read(min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def first_bytes(path: str | os.PathLike) -> bytes:
    """The first HEAD_BYTES of a file's content, or all of it, which tell what it is.

    Raises:
        InputError: as `open_text`.
    """
    with open_text(path) as (stream, _):
        return read_exactly(stream, HEAD_BYTES)


class _Unpacked(io.RawIOBase):
    """Decompressed content, whose errors are one line; more than any data of its file's size is an error too."""

    def __init__(self, path: pathlib.Path, kind: str, stream: Any, errors: tuple[type[Exception], ...]) -> None:
        self._path, self._kind, self._stream, self._errors = path, kind, stream, errors
        self._left = max(_FREE_BYTES, (file_size(path) or 0) * _MAX_RATIO)

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
                f"{self._path}: unpacks to more than {_MAX_RATIO} times its size, as no data set of images does; "
                "if it is valid, unpack it yourself"
            )
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _corrupt(path: pathlib.Path, kind: str, error: object) -> InputError:
    return InputError(f"{path}: corrupt {kind} file ({shorten(str(error))}); get it again")


def _unpack(path: pathlib.Path, raw: BinaryIO, magic: bytes, member: str | None) -> _Unpacked | None:
    """The stream for a file that begins with `magic`; None if that is not compressed."""
    # Each module is imported only if needed: a plain CSV does not wait for them.
    if magic.startswith(b"\x1f\x8b"):
        import gzip
        import zlib

        return _Unpacked(path, "gzip", gzip.GzipFile(fileobj=raw), (EOFError, zlib.error, gzip.BadGzipFile))
    if magic.startswith(ZIP_STARTS):
        return _unzip(path, raw, member)
    if magic.startswith(b"BZh"):
        import bz2

        return _Unpacked(path, "bzip2", bz2.BZ2File(raw), (EOFError, OSError, ValueError))
    if magic.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return _Unpacked(path, "xz", lzma.LZMAFile(raw), (EOFError, lzma.LZMAError, MemoryError))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        from backports import zstd  # what Python 3.14 calls compression.zstd

        return _Unpacked(path, "zstd", zstd.ZstdFile(raw), (EOFError, zstd.ZstdError))
    return None


def _unzip(path: pathlib.Path, raw: BinaryIO, member: str | None) -> _Unpacked:
    import zipfile
    import zlib

    try:
        archive = zipfile.ZipFile(raw)
        names = _names(archive)
        name = _choose(path, names) if member is None else member
        if name not in names:
            shown = list_few([shorten(name) for name in names[:_SHOWN_MEMBERS]], _SHOWN_MEMBERS, len(names))
            raise InputError(f"{path}: has no member {shorten(name)}; it holds {shown}")
        if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path}: its compression method is not supported; unpack it, or zip it with deflate")
        stream = archive.open(name)
    except InputError:
        raise
    except RuntimeError as error:  # what zipfile raises for a password
        raise InputError(f"{path}: cannot be unzipped ({error})") from error
    except (ValueError, OSError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise _corrupt(path, "zip", error) from error
    return _Unpacked(path, "zip", stream, (EOFError, zlib.error, zipfile.BadZipFile))


def zip_names(path: pathlib.Path) -> list[str]:
    """Names of the members of a zip.

    Raises:
        InputError: it is corrupt.
    """
    import zipfile

    try:
        with open_stream(path) as raw, zipfile.ZipFile(raw) as archive:
            return _names(archive)
    except (ValueError, OSError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise _corrupt(path, "zip", error) from error


def _names(archive: Any) -> list[str]:
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    return [name for name in names if not name.startswith("__MACOSX/")]  # macOS adds a hidden entry for each file


def _choose(path: pathlib.Path, names: Sequence[str]) -> str:
    """The only member of a zip, or its only CSV."""
    tables = [name for name in names if name.lower().endswith((".csv", ".tsv"))]
    for choice in (tables, names):
        if len(choice) == 1:
            return choice[0]
    for name in names:
        if (kind := next((kind for end, kind in _KINDS.items() if name.endswith(end)), None)) is not None:
            raise InputError(f"{path}: {kind[0]}; {kind[1]}")
    pictures = sum(name.lower().endswith(PICTURE_SUFFIXES) for name in names)
    if pictures > len(names) / 2:
        raise InputError(f"{path}: a zip of {pictures:,} images; unpack it and give the folder")
    if not names:
        raise InputError(f"{path}: an empty zip; get it again")
    choice = tables or names
    shown = list_few([shorten(name) for name in choice[:_SHOWN_MEMBERS]], _SHOWN_MEMBERS, len(choice))
    raise InputError(f"{path}: a zip of {len(names)} files ({shown}); choose one, as {path}:MEMBER")
