"""Whether a data set fits on its disk: asked before it is written, and said plainly when the disk fills after all."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator

from pipeline.convert.csv_source import CsvSource
from pipeline.errors import InputError
from pipeline.format.summary import size_text

_FULL = {
    errno.ENOSPC: "make room or choose another --out",
    errno.EDQUOT: "make room within your quota or choose another --out",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f) or say more --shards",
}
_PLAIN_FIELD_BYTES, _ODD_FIELD_BYTES = 4, 8  # "255," and what else a line may have for each field
_TWO_NUMBERS_BYTES = 40  # a label and an id of 19 digits


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that the shards take: about `likely`, and `least` if every line is as wide as lines of its kind can be."""

    least: int
    likely: int


def estimate_need(sources: Iterable[CsvSource], stride: int) -> Need:
    """What the rows of CSVs take as records of `stride` bytes, from the sizes of the files and their first lines."""
    least = likely = 0
    for source in sources:
        text_least, text_likely = _text_bytes(source)
        field = _PLAIN_FIELD_BYTES if source.sample.plain else _ODD_FIELD_BYTES
        widest = max(source.columns.count * field + _TWO_NUMBERS_BYTES, source.sample.line_bytes)
        least += int(text_least / widest) * stride
        likely += int(text_likely / (source.sample.line_bytes or widest)) * stride
    return Need(least, max(least, likely))


def check_space(out: str | os.PathLike, directory: pathlib.Path, need: Need) -> None:
    """Refuse what cannot fit; what lies in `directory` already counts as written.

    Raises:
        InputError: fewer bytes are free than the least that is needed.
    """
    free, written = shutil.disk_usage(directory).free, _bytes_in(directory)
    if free < need.least - written:
        raise InputError(
            f"{out}: about {size_text(need.likely - written)} are needed, at least {size_text(need.least - written)}, "
            f"but {size_text(free)} are free; {_FULL[errno.ENOSPC]}"
        )


@contextlib.contextmanager
def full_disk_explained(out: str | os.PathLike, directory: pathlib.Path, need: Need) -> Iterator[None]:
    """Turn a full disk into one line.

    Raises:
        InputError: the disk, the quota or the largest size of a file was reached.
    """
    try:
        yield
    except (OSError, InputError) as error:
        system = (
            error if isinstance(error, OSError) else error.__cause__
        )  # files.replacing speaks of its own file alone
        if not isinstance(system, OSError) or system.errno not in _FULL:
            raise
        written, free = _bytes_in(directory), shutil.disk_usage(directory).free
        raise InputError(
            f"{out}: {os.strerror(system.errno)}, with {size_text(written)} written; about "
            f"{size_text(max(0, need.likely - written))} more are needed and {size_text(free)} free; "
            f"{_FULL[system.errno]}"
        ) from error


def _text_bytes(source: CsvSource) -> tuple[int, int]:
    """(at least, about) how many bytes of text a file has."""
    if not source.sample.compressed:
        return source.num_bytes, source.num_bytes
    import zipfile  # a plain CSV does not wait for it

    if zipfile.is_zipfile(source.path):
        with zipfile.ZipFile(source.path) as archive:
            csvs = [info.file_size for info in archive.infolist() if info.filename.lower().endswith(".csv")]
        return max(csvs, default=0), max(csvs, default=0)
    with source.path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        least = int.from_bytes(file.read(), "little")  # of the last member alone, and modulo 4 GiB
    return least, max(least, int(source.num_bytes * source.sample.text_bytes / source.sample.disk_bytes))


def _bytes_in(directory: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())
