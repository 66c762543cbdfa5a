"""What a file is, by its content, for refusals that name it and say what to do."""

import os
import pathlib
import re

from pipeline.errors import InputError
from pipeline.format.records import HEADER_BYTES, masked_crc

HEAD_BYTES = 4096  # that tell what a file is
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
READ_KINDS = "CSV, IDX, .npy, .npz, Parquet, a folder of images, or a CSV of file names and labels"
_AS_ARRAYS = "save its arrays with numpy.savez and convert the .npz"
_IMAGES = "give a folder of images, FOLDER/CLASS/NAME.png, or a CSV of file names and labels"
_UNPACK = "unpack it and give what is inside"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
PICTURE_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_STARTS = {
    b"version https://git-lfs.github.com/spec/": ("a Git LFS pointer, not the file itself", "run: git lfs pull"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", _AS_ARRAYS),
    b"MATLAB ": ("a MATLAB file", f"load it with scipy.io.loadmat, {_AS_ARRAYS}"),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"PK\x03\x04": ("a zip within an archive", _UNPACK),
    b"\x1f\x8b": ("a gzip file within an archive", _UNPACK),
    b"ARROW1": ("an Arrow file", "write it as Parquet"),
    b"Obj\x01": ("an Avro file", "write it as Parquet"),
    b"SQLite format 3\0": ("an SQLite database", "write its table as CSV"),
    b"%PDF": ("a PDF", f"give {READ_KINDS}"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save it as CSV"),
}
_LIBSVM_LINE = re.compile(rb"[0-9.+-]+([ \t]+[0-9]+:[0-9.e+-]+){3}")
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257
_DICOM_MAGIC, _DICOM_OFFSET = b"DICM", 128


def refuse_unreadable(path: str | os.PathLike, head: bytes) -> None:
    """Raise InputError if a file that begins with `head` is of a kind that no reader reads.

    `head` has HEAD_BYTES, or all of a smaller file, and is not compressed.
    """
    kind = _kind_of(head, pathlib.PurePath(str(path)).suffix.lower())
    if kind is not None:
        what, advice = kind
        raise InputError(f"{path}: {what}; {advice}")


def _kind_of(head: bytes, suffix: str) -> tuple[str, str] | None:
    """What a file is and what to do about it; None for text, also if empty."""
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if (picture := picture_kind(head)) is not None:
        return f"a single {picture} image", _IMAGES
    if head[_TAR_OFFSET:].startswith(_TAR_MAGIC):
        return "a tar archive", _UNPACK
    if head[_DICOM_OFFSET:].startswith(_DICOM_MAGIC):
        return "a DICOM image", "write it as PNG"
    if len(head) > HEADER_BYTES and masked_crc(head[:8]) == head[8:HEADER_BYTES]:
        return "a TFRecord file", "import its folder with tools/import_tfrecord.py"
    return _text_kind(head) or _binary_kind(head, suffix)


def picture_kind(head: bytes) -> str | None:
    """The format of an encoded image that begins with `head`; None if it is not one."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    # "BM" may begin a text, which has no zero bytes.
    return next((kind for start, kind in PICTURE_STARTS.items() if head.startswith(start) and 0 in head[:32]), None)


def _text_kind(head: bytes) -> tuple[str, str] | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error")):
        return "a web page, not data, so probably a failed download", "get it again, logged in if the site needs that"
    if start.startswith((b"{", b"[")):
        return "JSON", f"give {READ_KINDS}"
    if start.startswith(b"@relation"):
        return "an ARFF file", "remove its lines up to @data and add --no-header"
    if _LIBSVM_LINE.match(start):
        return "LIBSVM's sparse text", f"load it with sklearn.datasets.load_svmlight_file, {_AS_ARRAYS}"
    return None


def _binary_kind(head: bytes, suffix: str) -> tuple[str, str] | None:
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a pickle, which can run code when it is loaded, so it is not read", _AS_ARRAYS
    # Text of two bytes per letter is left to the reader of tables, which names the encoding.
    if 0 not in head or head.startswith(_UTF16_BOMS) or not head[1:64:2].strip(b"\0"):
        return None
    name = f" ({suffix})" if suffix else ""
    return f"a binary file{name} of a kind that is not read", f"give {READ_KINDS}"
