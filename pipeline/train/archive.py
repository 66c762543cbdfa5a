"""Reading a NumPy archive (.npz) that may be corrupt or hostile: nothing is unpickled, and no size is believed."""

import pathlib
import zipfile
import zlib

import numpy as np

UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, ValueError, KeyError)  # what the functions here raise
_NPY_MAGIC = b"\x93NUMPY\x01\x00"  # version 1.0; numpy.org/doc/stable/reference/generated/numpy.lib.format.html
_MAX_HEADER_BYTES = 512  # of an array's type and shape


def read_members(path: pathlib.Path, limits: dict[str, int]) -> dict[str, bytes]:
    """The members of an archive with these names, checked against its CRC-32s; a small file can unpack to any size.

    Raises:
        OSError, BadZipFile, zlib.error: it cannot be read.
        KeyError: a name is not in it.
        ValueError: a member is larger than its limit in bytes, which does not count its header.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("truncated or not an archive")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {name: archive.getinfo(f"{name}.npy") for name in limits}
            for name, info in infos.items():
                if info.file_size > limits[name] + _MAX_HEADER_BYTES:
                    raise ValueError(f"{name} takes {info.file_size:,} bytes, at most {limits[name]:,} expected")
            return {name: archive.read(info) for name, info in infos.items()}
    except (EOFError, RuntimeError) as error:
        # zipfile's, if flags or sizes of its directory are corrupt; NotImplementedError is a RuntimeError.
        raise zipfile.BadZipFile(str(error) or "truncated member") from error


def parse_array(name: str, data: bytes, dtype: np.dtype, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The array in the bytes of a .npy file, which must be of this type and shape (by default flat); else ValueError.

    NumPy's own reader evaluates the header as Python, and allocates whatever shape it claims.
    """
    start = len(_NPY_MAGIC) + 2 + int.from_bytes(data[8:10], "little")
    wanted = (len(data) - start,) if shape is None else shape
    expected = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {wanted!r}, }}"
    header = data[len(_NPY_MAGIC) + 2 : start].decode("latin-1").rstrip()
    if not data.startswith(_NPY_MAGIC) or header != expected:
        raise ValueError(f"{name} is {header:.120}, not {expected}")
    return np.frombuffer(data, dtype, offset=start).reshape(wanted)
