"""Arrays in IDX and .npy files, plain, compressed or within a zip (.npz): shape and type first, then rows in blocks.

Nothing is unpickled: arrays of Python objects are refused.
"""

import io
import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.convert.compressed import open_text, read_exactly
from pipeline.errors import InputError
from pipeline.format.records import MAX_IMAGE_BYTES

NPY_MAGIC = b"\x93NUMPY"
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_IDX_DIMENSIONS = 4
_BLOCK_BYTES = 4 << 20
_MAX_ROW_BYTES = MAX_IMAGE_BYTES * 8  # an image of float64


class Header(NamedTuple):
    """What an array file says of its content; `columns_first`: in Fortran's order."""

    dtype: np.dtype
    shape: tuple[int, ...]
    columns_first: bool = False

    @property
    def text(self) -> str:
        """Such as "uint8 60000 x 28 x 28"."""
        return f"{self.dtype.name} {' x '.join(map(str, self.shape)) or 'scalar'}"


def is_idx(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an IDX file."""
    return len(head) >= 8 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and 1 <= head[3] <= _MAX_IDX_DIMENSIONS


def read_header(path: str | pathlib.Path) -> Header:
    """Type and shape of the array in a file or member.

    Raises:
        InputError: the file is corrupt, or holds Python objects.
    """
    with open_text(path) as (stream, _):
        return _read_header(path, stream)


def read_rows(path: str | pathlib.Path) -> Iterator[np.ndarray]:
    """The array along its first axis, in blocks of about 4 MiB, in the machine's byte order.

    Raises:
        InputError: the file is corrupt, or shorter or longer than its header says.
    """
    with open_text(path) as (stream, _):
        dtype, shape, columns_first = _read_header(path, stream)
        row_bytes = dtype.itemsize * math.prod(shape[1:])
        # Columns lie apart in the file, so they are read as a whole.
        step = max(1, shape[0] if columns_first else _BLOCK_BYTES // row_bytes)
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            data = read_exactly(stream, count * row_bytes)
            if len(data) != count * row_bytes:
                has = start + len(data) // row_bytes
                raise InputError(f"{path}: truncated, {has:,} of {shape[0]:,} rows; get it again")
            block = np.frombuffer(data, dtype).reshape((count, *shape[1:]), order="F" if columns_first else "C")
            yield block.astype(dtype.newbyteorder("="), copy=False)
        if stream.read(1):
            raise InputError(f"{path}: longer than its header says ({shape[0]:,} rows); get it again")


def _read_header(path: str | pathlib.Path, stream: io.RawIOBase) -> Header:
    start = read_exactly(stream, 8)
    header = _read_idx(path, stream, start) if is_idx(start) else _read_npy(path, stream, start)
    if header.dtype.hasobject:
        raise InputError(f"{path}: holds Python objects (a pickle), which are not loaded; save a numeric array")
    if not header.shape or min(header.shape) < 1:
        raise InputError(f"{path}: an array of {header.text}, so it has no rows")
    if header.dtype.itemsize * math.prod(header.shape[1:]) > _MAX_ROW_BYTES:
        raise InputError(f"{path}: an array of {header.text}, whose rows are larger than any image")
    return header


def _read_idx(path: str | pathlib.Path, stream: io.RawIOBase, start: bytes) -> Header:
    dimensions = start[3]
    data = start[4:] + read_exactly(stream, 4 * dimensions - 4)
    if len(data) != 4 * dimensions:
        raise InputError(f"{path}: truncated within its header; get it again")
    return Header(np.dtype(_IDX_TYPES[start[2]]), tuple(np.frombuffer(data, ">u4").tolist()))


def _read_npy(path: str | pathlib.Path, stream: io.RawIOBase, start: bytes) -> Header:
    npy = np.lib.format
    try:
        version = npy.read_magic(io.BytesIO(start))
        # By the length that the header states first, so that its reader sees no more than that.
        length_bytes = 2 if version == (1, 0) else 4
        length = read_exactly(stream, length_bytes)
        text = io.BytesIO(length + read_exactly(stream, int.from_bytes(length, "little")))
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read(text)
    except Exception as error:  # NumPy evaluates the header as Python's tokenizer and parser take it
        raise InputError(f"{path}: not an array as numpy.save writes it; get it again") from error
    return Header(dtype, shape, bool(columns_first) and len(shape) > 1)
