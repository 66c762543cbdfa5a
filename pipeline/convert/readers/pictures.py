"""Encoded images (PNG, JPEG and others that Pillow reads) to arrays of one shape."""

import io
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError, shorten
from pipeline.format.records import MAX_IMAGE_BYTES

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # no decoder that starts another program, as EPS has
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_CHANNELS = {1: "gray", 3: "RGB"}

Picture = tuple[str, bytes | pathlib.Path]  # how messages name it, and its encoded bytes or its file


def read_pictures(pictures: Iterable[Picture], shape: tuple[int, ...], first: str, options: ReadOptions) -> np.ndarray:
    """Images [n, H, W, C] of one shape, that of the picture `first`; uint8, or uint16 or more for deeper files.

    Raises:
        InputError: a picture cannot be decoded, or has another shape.
    """
    images = []
    for where, data in pictures:
        image = read_picture(where, data, options)
        if image.shape != shape:
            raise InputError(f"{where}: {shape_mismatch(image.shape, shape, first)}")
        images.append(image)
    return np.stack(images)


def read_picture(where: str, data: bytes | pathlib.Path, options: ReadOptions) -> np.ndarray:
    """One image [H, W, C], with 1 or 3 channels as in the file or as `options.channels` says.

    `options.image_size` (height, width) resizes it, by Pillow's bilinear filter, which averages over all that a smaller
    pixel covers. A turned photo is turned upright, as its EXIF data say.

    Raises:
        InputError: it cannot be decoded, is too large, moves, or is partly transparent.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS) as image:
                _check_size(where, image, options)
                return _to_array(where, ImageOps.exif_transpose(image), options)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file; remove its row, or correct --image-path") from error
    # Pillow's decoders raise whatever a corrupt file leads them to.
    except Exception as error:
        known = isinstance(error, Image.UnidentifiedImageError)
        reason = "" if known else f" ({shorten(str(error)) if type(error) is OSError else type(error).__name__})"
        raise InputError(f"{where}: not an image that can be decoded{reason}; get it again or remove it") from error


def fit_picture(where: str, image: np.ndarray, options: ReadOptions) -> np.ndarray:
    """A decoded image [H, W, C], turned, resized and with the channels that `options` ask for."""
    if options.image_size is None and options.channels is None and not options.transpose:
        return image
    return _to_array(where, Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), options)


def gray_notes(first: np.ndarray, options: ReadOptions) -> tuple[str, ...]:
    """What to report of gray images stored as RGB, by the first one, [H, W, C]."""
    if first.shape[2] == 3 and options.channels is None and (first == first[..., :1]).all():
        return ("the first image is gray but stored as RGB; --channels 1 stores a third of the bytes",)
    return ()


def _check_size(where: str, image: Any, options: ReadOptions) -> None:
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a photo and its previews
        raise InputError(f"{where}: holds {image.n_frames} pictures; save one of them")
    if options.image_size is None and image.width * image.height > MAX_IMAGE_BYTES:
        raise InputError(f"{where}: an image of {image.height} x {image.width}; at most {MAX_IMAGE_BYTES:,} pixels")


def _to_array(where: str, image: Any, options: ReadOptions) -> np.ndarray:
    if options.transpose:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not deep:
        image = _plain(where, image, options)
        if options.channels is not None:
            image = image.convert("L" if options.channels == 1 else "RGB")
    if options.image_size is not None and image.size[::-1] != tuple(options.image_size):
        height, width = options.image_size
        resized = (image.convert("F") if deep else image).resize((width, height), Image.Resampling.BILINEAR)
        values = np.asarray(resized)
        values = np.rint(values) if deep and image.mode != "F" else values
    else:
        values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    return np.repeat(values, 3, axis=2) if deep and options.channels == 3 else values


def _plain(where: str, image: Any, options: ReadOptions) -> Any:
    """The image in mode L or RGB."""
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
        gray = bool((palette == palette[:, :1]).all())
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            if options.channels is None:
                raise InputError(f"{where}: partly transparent; --channels 1 or --channels 3 puts images on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if gray else "RGB"
    return image if image.mode == mode else image.convert(mode)


def shape_mismatch(shape: tuple[int, ...], expected: tuple[int, ...], first: str) -> str:
    if shape[2] != expected[2]:
        kinds = [_CHANNELS.get(channels, f"{channels} channels") for channels in (shape[2], expected[2])]
        return f"{kinds[0]}, but {first} is {kinds[1]}; --channels 1 reads all as gray, --channels 3 as RGB"
    sizes = [f"{height} x {width}" for height, width, _ in (shape, expected)]
    height, width, _ = expected
    return (
        f"an image of {sizes[0]}, but {first} has {sizes[1]}; all need one size, --image-size {height} {width} resizes"
    )
