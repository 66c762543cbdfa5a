"""Draw handwritten Kannada numerals: strokes through points, then ink around the strokes.

The ink at a pixel is the sum of Gaussians along the pen's path, cut at half of its height on a straight line: strokes
that meet merge a little, as ink does. A Gaussian is a product of one in x and one in y, so an image is one small matrix
product rather than a distance from every pixel to every sample.
"""

import math
from collections.abc import Iterator

import numpy as np

from pipeline.errors import InputError
from pipeline.sample.strokes import make_forms
from pipeline.sample.writers import Style, make_labels, make_style

IMAGE_SIZE = 28
ROWS_PER_WRITER = 200
CHUNK_ROWS = 250  # 11 MB of temporaries; larger chunks are no faster
_BOX = 20.0  # pixels; Kannada-MNIST, as MNIST, scales the longer side to it and centres the mass of the ink
_STRAY_SAMPLES = 16
_HALF_WIDTH = math.sqrt(2 * math.log(2))  # where exp(-d^2 / 2) is 1/2
_SLOPE = _HALF_WIDTH / 2  # of exp(-d^2 / 2) there
_FORMS = make_forms()


def draw(num_rows: int, seed: int, rows_per_writer: int = ROWS_PER_WRITER) -> tuple[np.ndarray, np.ndarray]:
    """Rows 0 .. num_rows - 1 of the endless sample that `seed` names.

    A row depends on `seed`, `rows_per_writer` and its number alone. Another seed has other writers. Other versions of
    NumPy may have other random streams, and other processors may round exp() differently.

    Returns:
        images uint8 [num_rows, 28, 28], 0 = paper and 255 = ink; labels int64 [num_rows].

    Raises:
        InputError: num_rows or rows_per_writer is below 1, or seed below 0.
    """
    images, labels = zip(*draw_chunks(num_rows, seed, rows_per_writer), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def draw_chunks(num_rows: int, seed: int, rows_per_writer: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `draw`, CHUNK_ROWS rows at a time, so that memory does not grow with `num_rows`."""
    for name, value, lowest in (("num_rows", num_rows, 1), ("rows_per_writer", rows_per_writer, 1), ("seed", seed, 0)):
        if value < lowest:
            raise InputError(f"{name} is {value}; give {lowest} or more")
    chunks = (range(first, min(first + CHUNK_ROWS, num_rows)) for first in range(0, num_rows, CHUNK_ROWS))
    return (_draw(rows, seed, rows_per_writer) for rows in chunks)


def _draw(rows: range, seed: int, rows_per_writer: int) -> tuple[np.ndarray, np.ndarray]:
    labels = make_labels(rows, seed, rows_per_writer)
    style = make_style(rows, labels, seed, rows_per_writer, _FORMS.points.shape[1:], IMAGE_SIZE**2)
    places, weights = _add_stray(*_pen_path(labels, style), style)
    ink = _ink(places, weights, style).reshape(len(rows), -1) * (1 - style.loss)
    dirty = np.flatnonzero(style.speck >= 0)
    ink[dirty, style.speck[dirty]] = 1
    return np.rint(255 * ink).astype(np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE), labels


def _pen_path(labels: np.ndarray, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Where the pen is, pixels from the centre [n, samples, 2], and the ink that it leaves there [n, samples]."""
    form = _FORMS.first_form[labels] + (style.form * _FORMS.num_forms[labels]).astype(np.int64)
    points = _FORMS.points[form] + style.jitter
    # einsum, not matmul: no BLAS, whose rounding can depend on its number of threads.
    points = np.einsum("nij,nkj->nki", style.linear, points)
    places = np.einsum("nsk,nkc->nsc", _FORMS.position[form], points)
    steps = np.einsum("nsk,nkc->nsc", _FORMS.velocity[form], points)
    for amplitude, frequency, phase in np.moveaxis(style.warp, (1, 3), (0, 1)):
        # Each axis is moved by a wave along the other one, which bends strokes and never folds them.
        wave = np.sin(frequency[:, None] * places[..., ::-1] + phase[:, None])
        places = places + amplitude[:, None] * wave

    low, high = places.min(axis=1), places.max(axis=1)
    scale = style.size * (_BOX - 2 * style.pen) / (high - low).max(axis=-1)
    length = np.hypot(steps[..., 0], steps[..., 1]) * scale[:, None]
    centre = (places * length[..., None]).sum(axis=1) / length.sum(axis=1)[:, None]
    places = (places - centre[:, None]) * scale[:, None, None] + style.shift[:, None]
    return places, length * _pressure(style, length.shape[1])


def _pressure(style: Style, num_samples: int) -> np.ndarray:
    along = (np.arange(num_samples, dtype=np.float32) + 0.5) / num_samples
    amplitude, frequency, phase = style.pressure.T[..., None]
    pressure = 1 + amplitude * np.sin(2 * np.pi * (frequency * along + phase))
    middle, half = np.moveaxis(style.gaps, 2, 0)[..., None]
    return pressure * (np.abs(along - middle) >= half).all(axis=1)


def _add_stray(places: np.ndarray, weights: np.ndarray, style: Style) -> tuple[np.ndarray, np.ndarray]:
    along = np.linspace(0, 1, _STRAY_SAMPLES, dtype=np.float32)[:, None]
    begin, way = style.stray[:, None, 0], style.stray[:, None, 1]
    step = np.hypot(way[..., 0], way[..., 1]) / _STRAY_SAMPLES * style.has_stray[:, None]
    stray_weights = np.repeat(step, _STRAY_SAMPLES, axis=1)
    return np.hstack([places, begin + along * way]), np.hstack([weights, stray_weights])


def _ink(places: np.ndarray, weights: np.ndarray, style: Style) -> np.ndarray:
    """Ink 0..1, float32 [n, 28, 28], around `places` [n, samples, 2] with `weights` [n, samples]."""
    sigma = (style.pen / _HALF_WIDTH)[:, None, None]
    across, down = _gaussians(places[..., 0], sigma), _gaussians(places[..., 1], sigma)
    # A straight line of weight 1 per pixel has the height 1.
    down *= weights[:, None] / (sigma * math.sqrt(2 * math.pi))
    height = np.einsum("nys,nxs->nyx", down, across)
    # Below a steepness of 1 the paper itself would turn grey.
    steepness = np.maximum(style.edge[:, None, None] * sigma / _SLOPE, 1.1)
    return np.clip((height - 0.5) * steepness + 0.5, 0, 1)


def _gaussians(places: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """[n, 28, samples]: at each row (or column) of pixels, the height of a Gaussian around each of `places`."""
    pixels = np.arange(IMAGE_SIZE, dtype=np.float32)[:, None] - IMAGE_SIZE / 2
    exponent = (pixels - places[:, None]) / sigma
    exponent *= exponent
    exponent *= -0.5
    # Products of smaller values would be denormal, which processors multiply ten times slower.
    np.maximum(exponent, -40, out=exponent)
    return np.exp(exponent, out=exponent)
