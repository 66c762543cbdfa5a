"""Images as raw bytes, whose shape and type are not stated: what they may be, and what they surely are not."""

import math

import numpy as np

from pipeline.convert.pixels import Shape
from pipeline.errors import InputError

# Types that raw bytes may have instead of uint8, and what pixels in them look like.
_WIDE = (("<f4", "float32"), ("<i4", "int32"), ("<f8", "float64"), ("<i8", "int64"))
_LEAST_PIXEL, _MOST_PIXEL = 1e-6, 1e6


def check_raw(where: str, size: int, shape: Shape) -> None:
    """Raise InputError unless a raw image of `size` bytes has this shape."""
    expected, text = math.prod(shape), " x ".join(map(str, shape))
    if size == expected:
        return
    if size in (2 * expected, 4 * expected, 8 * expected):
        raise InputError(
            f"{where}: an image of {size:,} bytes, {size // expected} per pixel of {text}, so of another type than "
            "uint8, such as float32; write it as uint8"
        )
    raise InputError(f"{where}: an image of {size:,} bytes, expected {expected:,} for {text}, or a PNG or JPEG")


def square_shape(where: str, size: int, data: bytes) -> Shape:
    """The shape of gray squares of `size` bytes each.

    Args:
        where: the start of messages.
        size: bytes of an image, or values if they are integers.
        data: some images, to see whether their bytes are pixels; empty if that is known.

    Raises:
        InputError: they are not squares, or of another type than uint8.
    """
    side = math.isqrt(size)
    if side * side != size or not size:
        triple = math.isqrt(size // 3)
        example = f", such as --image-shape {triple} {triple} 3" if size and 3 * triple * triple == size else ""
        raise InputError(
            f"{where}: its image is {size:,} raw bytes and not a square of one channel; give --image-shape H W C"
            f"{example}"
        )
    if (name := _wide_type(data)) is not None:
        raise InputError(
            f"{where}: its image looks like {name} values, not uint8 pixels; write it as uint8, or give "
            f"--image-shape {side} {side} 1 if its {size:,} bytes are pixels"
        )
    return side, side, 1


def _wide_type(data: bytes) -> str | None:
    """The type of raw images that are not uint8 but of four or eight bytes per pixel, by their values; else None."""
    for kind, name in _WIDE:
        if len(data) % np.dtype(kind).itemsize:
            continue
        values = np.frombuffer(data, kind)
        # White pixels are -1 as integers, which no integer pixel is.
        values, least, most = (values, 1, 255) if kind[1] == "i" else (np.abs(values), _LEAST_PIXEL, _MOST_PIXEL)
        values = values[values != 0]
        if len(values) and ((values >= least) & (values <= most)).all():
            return name
    return None
