"""Numbers of a file to the pixels that are stored: their order, their range, and the shape of an image."""

import math
from collections.abc import Callable

import numpy as np

from pipeline.convert.csv.columns import infer_image_shape
from pipeline.convert.read_options import MAX_CHANNELS, PLANES, ReadOptions
from pipeline.errors import InputError
from pipeline.format.records import MAX_IMAGE_BYTES

Shape = tuple[int, int, int]  # height, width, channels
_USUAL_RANGES = ((0, 1), (-1, 1), (-0.5, 0.5), (0, 255), (0, 1023), (0, 4095), (0, 65535))


class PixelError(ValueError):
    """A value that is not a pixel; `row` counts from 0 within the values."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row


def find_shape(where: str, stored: tuple[int, ...], known: Shape | None, options: ReadOptions) -> Shape:
    """Shape of the images of a file.

    Args:
        where: the start of messages, such as "train.csv".
        stored: lengths of one image's values: (pixels,), (H, W), or (H, W, C), or (C, H, W) with the layout CHW.
        known: the shape that the file states, if it does.

    Raises:
        InputError: it cannot be inferred, is not the one given, or is an unlikely one.
    """
    if options.image_shape is not None:
        needed = math.prod(options.image_shape)
        if needed != math.prod(stored):
            given = " ".join(map(str, options.image_shape))
            raise InputError(f"{where}: {math.prod(stored)} pixels, but --image-shape {given} needs {needed}")
        if known is None and len(stored) == 1:
            return options.image_shape
    if known is None and len(stored) == 1:
        return infer_image_shape(where, stored[0], None, options.layout == PLANES)
    height, width, channels = known or (*stored, 1)[:3]
    if options.layout == PLANES and len(stored) == 3:
        channels, height, width = height, width, channels
    if options.transpose:
        height, width = width, height
    if channels > MAX_CHANNELS and options.layout is None:
        raise InputError(
            f"{where}: images of {height} x {width} x {channels}, {channels} channels; for planes give --layout CHW, "
            "or --layout HWC if there are that many channels"
        )
    if height * width * channels > MAX_IMAGE_BYTES:
        raise InputError(f"{where}: images of {height} x {width} x {channels}; at most {MAX_IMAGE_BYTES:,} bytes")
    if options.image_shape not in (None, (height, width, channels)):
        given = " x ".join(map(str, options.image_shape or ()))
        raise InputError(
            f"{where}: images of {height} x {width} x {channels}, but --image-shape says {given}; omit it, or resize "
            "them with --image-size H W"
        )
    return height, width, channels


def arrange(values: np.ndarray, shape: Shape, known: bool, options: ReadOptions) -> np.ndarray:
    """Values [n, H*W*C] in the order in which they are stored, row by row with the channels of a pixel together.

    `values` are [n, ...] as in the file; `known`: it states its shape, so flat values have the right order already.
    """
    height, width, channels = shape
    if options.transpose:
        height, width = width, height
    if options.layout == PLANES and (values.ndim == 4 or not known):
        images = np.moveaxis(values.reshape(-1, channels, height, width), 1, -1)
    else:
        images = values.reshape(-1, height, width, channels)
    if options.transpose:
        images = images.swapaxes(1, 2)
    return images.reshape(len(values), -1)


def to_bytes(values: np.ndarray, pixel_range: tuple[float, float] | None) -> np.ndarray:
    """uint8 [n, pixels] of numbers [n, pixels]: whole numbers of 0 to 255 as they are, or a range scaled to these.

    Raises:
        PixelError: a value is outside the range, or not a whole number although no range was given.
    """
    if values.dtype == np.uint8 and pixel_range is None:
        return values
    if pixel_range is None:
        valid = (values >= 0) & (values <= 255)
        if values.dtype.kind == "f":
            valid &= values == np.floor(values)
        _check(values, valid, lambda values: f"not a whole number in 0..255{_range_advice(values)}")
        return values.astype(np.uint8)
    low, high = pixel_range
    inside = (values >= low) & (values <= high)
    _check(values, inside, lambda values: f"outside --pixel-range {low:g} {high:g}{_range_advice(values)}")
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _check(values: np.ndarray, valid: np.ndarray, describe: Callable[[np.ndarray], str]) -> None:
    if valid.all():
        return
    row, pixel = divmod(int(np.argmin(valid)), valid.shape[1])
    raise PixelError(row, f"pixel {pixel} (counted from 0): {values[row, pixel]:g} is {describe(values)}")


def _range_advice(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return range_advice(float(finite.min()), float(finite.max())) if finite.size else ""


def range_advice(low: float, high: float) -> str:
    """What to do about pixels from `low` to `high` that are not whole numbers in 0..255, to end a message with."""
    bounds = next((bounds for bounds in _USUAL_RANGES if bounds[0] <= low and high <= bounds[1]), (low, high))
    given = " ".join(f"{bound:.12g}" for bound in bounds)
    if bounds[0] == bounds[1]:
        given = "LO HI"
    return f"; values here run from {low:g} to {high:g}: --pixel-range {given} scales them to 0..255"
