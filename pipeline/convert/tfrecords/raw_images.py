"""Images as raw bytes, whose shape and type are not stated: what they may be, and what they surely are not."""

import math

import numpy as np

from pipeline.convert.pixels import Shape
from pipeline.errors import InputError

# Types that raw bytes may have instead of uint8, and what pixels in them look like.
_WIDE = (("<f4", "float32"), ("<i4", "int32"), ("<f8", "float64"), ("<i8", "int64"))
_LEAST_PIXEL, _MOST_PIXEL = 1e-6, 1e6


def raw_numbers(where: str, image: bytes | np.ndarray, kind: str | None) -> np.ndarray:
    """The values of an image that is not encoded: flat, or in the shape of a serialised tensor.

    `kind` is the type of raw bytes; None: uint8, or a tensor that says it.

    Raises:
        InputError: the bytes are not whole values.
    """
    if not isinstance(image, bytes):
        return image
    if kind is None and (tensor := _tensor(image)) is not None:
        return tensor
    dtype = np.dtype(kind or "uint8").newbyteorder("<")
    if len(image) % dtype.itemsize:
        raise InputError(f"{where}: an image of {len(image):,} bytes, so not of --image-type {kind}")
    return np.frombuffer(image, dtype)


def _tensor(data: bytes) -> np.ndarray | None:
    """The numbers of what `tf.io.serialize_tensor` wrote; None for other bytes."""
    if data[:1] != b"\x08" or data[2:3] != b"\x12":  # the type, then the shape
        return None
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    try:
        tensor = TensorProto.FromString(data)
        dtype = np.dtype(tf.dtypes.as_dtype(tensor.dtype).as_numpy_dtype)
        # Of the bytes that are there: TensorFlow would allocate whatever the shape states.
        values = np.frombuffer(tensor.tensor_content, dtype).reshape([axis.size for axis in tensor.tensor_shape.dim])
    except Exception:  # protobuf's DecodeError, which has moved between its modules, and NumPy's errors
        return None
    return values if dtype.kind in "biuf" else None


def check_raw(where: str, size: int, shape: Shape) -> None:
    """Raise InputError unless a raw image of `size` values has this shape."""
    expected, text = math.prod(shape), " x ".join(map(str, shape))
    if size == expected:
        return
    if name := {2: "uint16", 4: "float32", 8: "float64"}.get(size // expected) if size % expected == 0 else None:
        raise InputError(
            f"{where}: an image of {size:,} bytes, {size // expected} per pixel of {text}, so of another type than "
            f"uint8; name it, such as --image-type {name}"
        )
    raise InputError(f"{where}: an image of {size:,} values, expected {expected:,} for {text}, or a PNG or JPEG")


def square_shape(where: str, size: int, data: bytes) -> Shape:
    """The shape of gray squares of `size` bytes each.

    Args:
        where: the start of messages.
        size: values of an image.
        data: some images, to see whether their bytes are pixels; empty if that is known.

    Raises:
        InputError: they are not squares, or of another type than uint8.
    """
    side = math.isqrt(size)
    if side * side != size or not size:
        triple = math.isqrt(size // 3)
        example = f", such as --image-shape {triple} {triple} 3" if size and 3 * triple * triple == size else ""
        raise InputError(
            f"{where}: its image is {size:,} raw values and not a square of one channel; give --image-shape H W C"
            f"{example}, and --image-type if they are not bytes"
        )
    if (name := _wide_type(data)) is not None:
        raise InputError(
            f"{where}: its image looks like {name} values, not uint8 pixels; give --image-type {name}, or "
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
