"""Finding the TFRecord files of a data set, and their records one after another, without TensorFlow."""

import gzip
import io
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence

from pipeline.errors import InputError, list_few, size_text
from pipeline.format.manifest import SPLIT_NAME
from pipeline.format.records import FOOTER_BYTES, HEADER_BYTES, masked_crc
from pipeline.splits import TRAIN

_SPLIT = f"(?P<split>{SPLIT_NAME.pattern})"
_PLACE = r"(?P<index>\d{5})-of-(?P<count>\d{5})"
_SUFFIX = r"\.tfrec(?:ords?)?"
_NAMES = (
    re.compile(rf"(?:.*-)?{_SPLIT}{_SUFFIX}-{_PLACE}"),  # as TensorFlow Datasets names them
    re.compile(rf"(?:.*-)?{_SPLIT}-{_PLACE}(?:{_SUFFIX})?"),
    re.compile(rf"{_SPLIT}{_SUFFIX}"),
    re.compile(rf"(?:.*-)?{_SPLIT}{_SUFFIX}-(?P<index>\d{{5}})"),  # its SequentialWriter, which does not know the count
)
_ANY = re.compile(rf".*{_SUFFIX}(?:\.gz|-\d{{5}}.*)?")
_OTHER_FORMATS = (".array_record-", ".riegeli-", ".bagz-", ".parquet-")  # of TensorFlow Datasets
_OTHERS = "other files are converted by tools/csv_to_tfrecord.py"
_MAX_RECORD_BYTES = 1 << 30  # in compressed files, whose length does not bound a record's
_ZLIB_STARTS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")

Files = dict[str, list[pathlib.Path]]


def find_tfrecords(directory: pathlib.Path, patterns: Sequence[tuple[str, str]] = ()) -> Files:
    """Split -> its files in order; train comes first.

    Args:
        directory: files are named as TensorFlow Datasets does, SPLIT-00000-of-00008(.tfrecord), or SPLIT.tfrecord, or
            lie in folders SPLIT/, whatever their names.
        patterns: (split, pattern of its files' names relative to the directory) pairs, instead of looking at names.

    Raises:
        InputError: there is no such directory, no TFRecord, or a shard is missing.
    """
    if not directory.is_dir():
        what = "a file; give the folder it is in" if _ANY.fullmatch(directory.name) else f"not a folder; {_OTHERS}"
        raise InputError(f"{directory}: {what if directory.is_file() else 'no such directory'}")
    files = _by_pattern(directory, patterns) if patterns else _by_name(directory) or _by_folder(directory)
    if not files:
        raise InputError(f"{directory}: {_describe(directory)}")
    return {split: files[split] for split in sorted(files, key=lambda name: (name != TRAIN, name))}


def read_records(path: pathlib.Path) -> Iterator[bytes]:
    """The payload of each record of a file, plain or compressed as GZIP or ZLIB.

    TensorFlow's reader would allocate whatever length a corrupt frame states.

    Raises:
        InputError: a record is corrupt.
    """
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
        file.seek(0)
        left: int | None = None
        stream: io.IOBase = file
        if start.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=file)
        elif start.startswith(_ZLIB_STARTS) and masked_crc(start[:8]) != start[8:]:
            stream = io.BufferedReader(_Inflated(file))
        else:
            left = path.stat().st_size
        yield from _frames(path, stream, left)


def place_of(path: pathlib.Path, record: int) -> str:
    """How messages name a record."""
    return f"{path}, record {record} (counted from 0)"


class _Inflated(io.RawIOBase):
    """A file compressed as ZLIB, decompressed."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file, self._inflate = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer; 0 at the end."""
        data = b""
        while not data and not self._inflate.eof:
            source = self._inflate.unconsumed_tail or self._file.read(1 << 16)
            if not source:
                raise EOFError("truncated")
            data = self._inflate.decompress(source, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _frames(path: pathlib.Path, stream: io.IOBase, left: int | None) -> Iterator[bytes]:
    """Records of a stream with `left` bytes, None if that is not known."""
    number = 0
    try:
        while header := stream.read(HEADER_BYTES):
            length = int.from_bytes(header[:8], "little")
            most = _MAX_RECORD_BYTES if left is None else left - HEADER_BYTES - FOOTER_BYTES
            valid = length <= most and masked_crc(header[:8]) == header[8:]
            record = stream.read(length) if valid else b""
            if not valid or masked_crc(record) != stream.read(FOOTER_BYTES):
                raise InputError(f"{place_of(path, number)}: corrupt or truncated; write or fetch the file again")
            left = None if left is None else left - HEADER_BYTES - length - FOOTER_BYTES
            yield record
            number += 1
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: corrupt or truncated compressed file ({error}); get it again") from error


def _by_pattern(directory: pathlib.Path, patterns: Sequence[tuple[str, str]]) -> Files:
    files: Files = {}
    for split, pattern in patterns:
        found = sorted(path for path in directory.glob(pattern) if path.is_file())
        if not found:
            raise InputError(f"{directory}: no file is named like {pattern!r}, which --split {split} asks for")
        files.setdefault(split, []).extend(found)
    return files


def _by_name(directory: pathlib.Path) -> Files:
    places: dict[str, dict[int, tuple[pathlib.Path, int]]] = {}
    for path in sorted(directory.iterdir()):
        match = next(filter(None, (pattern.fullmatch(path.name.removesuffix(".gz")) for pattern in _NAMES)), None)
        if match is None or not path.is_file():
            continue
        fields = match.groupdict()
        index, count = int(fields.get("index") or 0), int(fields.get("count") or 0)
        by_index = places.setdefault(fields["split"], {})
        if index in by_index:
            raise InputError(f"{path}: the same shard as {by_index[index][0].name}; remove one of them")
        by_index[index] = path, count
    for split, by_index in places.items():
        _check_complete(directory, split, by_index)
    return {split: [by_index[index][0] for index in sorted(by_index)] for split, by_index in places.items()}


def _check_complete(directory: pathlib.Path, split: str, by_index: Mapping[int, tuple[pathlib.Path, int]]) -> None:
    counts = {count for _, count in by_index.values()}
    missing = sorted(set(range(max(max(counts), max(by_index) + 1))) - set(by_index))
    if len(counts) > 1 or missing:
        what = f"shard {missing[0]} is missing" if missing else "their names give different numbers of shards"
        raise InputError(f"{directory}: split {split!r}: {what}; get the files again")


def _by_folder(directory: pathlib.Path) -> Files:
    """Folders named like splits, whose files have any names, as 00-192x192-798.tfrec."""
    folders = {path.name: _tfrecords_in(path) for path in directory.iterdir() if path.is_dir()}
    return {name: files for name, files in folders.items() if files and SPLIT_NAME.fullmatch(name)}


def _tfrecords_in(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in directory.iterdir() if path.is_file() and _ANY.fullmatch(path.name))


def _describe(directory: pathlib.Path) -> str:
    """Why no split was found in a directory, and what to give."""
    names = [path.name for path in sorted(directory.iterdir()) if path.is_file()]
    if records := [path.name for path in _tfrecords_in(directory)]:
        return (
            f"names of its TFRecords ({list_few(records, 3)}) do not say their split; give it, for instance "
            f"--split train='*{pathlib.Path(records[0]).suffix}'"
        )
    other = next((kind for kind in _OTHER_FORMATS if any(kind in name for name in names)), None)
    if other is not None:
        return f"holds {other.strip('.-')} files, not TFRecords; give it to --tfds, which reads them"
    for path in sorted([*directory.glob("*/*"), *directory.glob("*/*/*")]):
        if path.is_file() and _ANY.fullmatch(path.name):
            return f"no TFRecords, but {path.parent} has some; give that"
    total = size_text(sum((directory / name).stat().st_size for name in names))
    held = f"it holds {list_few(names, 3)} ({total})" if names else "it holds no file"
    return f"no TFRecords; they have names like NAME-train.tfrecord-00000-of-00008; {held}; {_OTHERS}"
