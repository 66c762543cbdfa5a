"""Draw handwritten Kannada numerals: writers with habits, strokes through points, ink around the strokes.

Every quantity has a writer's habit and a smaller change from row to row. A writer's numbers come from a generator keyed
by (seed, writer), a row's from one keyed by (seed, row), so they do not depend on how many rows are drawn. The amounts
were set by eye beside Kannada-MNIST, and so that class means alone err about as often (17 %; there 13 %).

The ink at a pixel is the sum of Gaussians along the pen's path, cut at half of its height on a straight line: strokes
that meet merge a little, as ink does. A Gaussian is a product of one in x and one in y, so an image is one small matrix
product rather than a distance from every pixel to every sample.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.sample.strokes import make_forms

IMAGE_SIZE = 28
ROWS_PER_WRITER = 200
CHUNK_ROWS = 250  # 11 MB of temporaries; larger chunks are no faster
_NUM_DIGITS = 10
_WRITER, _ROW, _ORDER = range(3)  # part of a generator's key, so that no two share one
_NUM_GAPS = 2  # at most, in the ink of a row
_NUM_WAVES = 2  # of the smooth warp, per axis
_NUM_NORMALS, _NUM_UNIFORMS = 64, 32  # how many numbers a key gives, more than are used

# (habit of the writer, change from row to row) as standard deviations
_POINT_JITTER = (0.65, 0.35)  # pixels
_SLANT = (0.17, 0.07)  # pixels of x per pixel of y
_ROTATION = (0.07, 0.05)  # radians
_ASPECT = (0.16, 0.07)  # log of width over height
_SIZE = (0.03, 0.03)  # log
_SHIFT = (0.0, 0.5)  # pixels
_WARP = (0.4, 0.3)  # pixels
_PEN = (0.24, 0.10)  # log of the pen's radius
_PRESSURE = (0.15, 0.10)  # relative ink along the stroke
_EDGE = (0.35, 0.1)  # log of the steepness: scans of this kind range from grey to black and white

_MEAN_ASPECT = -0.1
_MEAN_EDGE = 1.4
_PEN_RADIUS = 0.84  # pixels
_GAP_RATE = 0.5  # how often a gap appears where the writer's pen is at its driest
_GAP_LENGTH = 0.025  # half of it, as a share of the form
_STRAY_RATE, _SPECK_RATE = 0.03, 0.06  # shares of the rows
_STRAY_REACH = np.array([[12], [7]], np.float32)  # pixels: of its beginning, of its way
_STRAY_SAMPLES = 16
_MAX_LOSS = 0.35  # of a pixel's ink, in the worst scan
_BOX = 20.0  # pixels; Kannada-MNIST, as MNIST, scales the longer side to it and centres the mass of the ink
_HALF_WIDTH = math.sqrt(2 * math.log(2))  # where exp(-d^2 / 2) is 1/2
_SLOPE = _HALF_WIDTH / 2  # of exp(-d^2 / 2) there
_FORMS = make_forms()


class _Style(NamedTuple):
    """How n rows are written; float32 unless stated, one entry per row along the first axis."""

    form: np.ndarray  # [n], which of the numeral's forms, as a share 0 <= form < 1 of the way through them
    jitter: np.ndarray  # [n, points, 2], pixels
    linear: np.ndarray  # [n, 2, 2], slant, rotation and aspect; times a column (x, y)
    size: np.ndarray  # [n], relative to the usual size
    shift: np.ndarray  # [n, 2], pixels
    warp: np.ndarray  # [n, waves, 2, 3], per wave and axis: amplitude in pixels, frequency in radians per pixel, phase
    pen: np.ndarray  # [n], the pen's radius in pixels
    edge: np.ndarray  # [n], how steep the ink's edge is; at 1 it rises over one pixel
    pressure: np.ndarray  # [n, 3], amplitude, then frequency and phase in turns along the form
    gaps: np.ndarray  # [n, gaps, 2], middle and half length along the form, 0..1; length 0: no gap
    stray: np.ndarray  # [n, 2, 2], pixels: where a stray line begins, from the centre, and its extent; 0: no line
    loss: np.ndarray  # [n, pixels], the share of ink that each pixel lacks
    speck: np.ndarray  # int64 [n], the pixel that dirt blackens, or -1


class _Numbers:
    """Random numbers of n rows, handed out column by column; no two calls get the same ones."""

    def __init__(self, habits: np.ndarray, changes: np.ndarray) -> None:
        self._habits, self._changes, self._used = habits, changes, 0

    def take(self, amounts: tuple[float, float], *shape: int) -> np.ndarray:
        """[n, *shape]: `amounts[0]` times the writer's numbers plus `amounts[1]` times the row's."""
        start, self._used = self._used, self._used + math.prod(shape)
        columns = np.s_[:, start : self._used]
        mixed = np.float32(amounts[0]) * self._habits[columns] + np.float32(amounts[1]) * self._changes[columns]
        return mixed.reshape(-1, *shape)


def draw_chunks(
    num_rows: int, seed: int, rows_per_writer: int = ROWS_PER_WRITER
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows 0 .. num_rows - 1 of the endless sample that `seed` names, CHUNK_ROWS at a time to bound the memory.

    A row depends on `seed`, `rows_per_writer` and its number alone. Another seed has other writers. Other versions of
    NumPy may have other random streams, and other processors may round exp() differently.

    Yields:
        images uint8 [n, 28, 28], 0 = paper and 255 = ink; labels int64 [n].

    Raises:
        InputError: num_rows is below 1, or seed below 0; raised by the call, before any row.
    """
    for name, value, lowest in (("num_rows", num_rows, 1), ("seed", seed, 0)):
        if value < lowest:
            raise InputError(f"{name} is {value}; give {lowest} or more")
    chunks = (range(first, min(first + CHUNK_ROWS, num_rows)) for first in range(0, num_rows, CHUNK_ROWS))
    return (_draw(rows, seed, rows_per_writer) for rows in chunks)


def _draw(rows: range, seed: int, rows_per_writer: int) -> tuple[np.ndarray, np.ndarray]:
    labels = _make_labels(rows, seed, rows_per_writer)
    style = _make_style(rows, labels, seed, rows_per_writer)
    places, weights = _add_stray(*_pen_path(labels, style), style)
    ink = _ink(places, weights, style).reshape(len(rows), -1) * (1 - style.loss)
    dirty = np.flatnonzero(style.speck >= 0)
    ink[dirty, style.speck[dirty]] = 1
    return np.rint(255 * ink).astype(np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE), labels


def _make_labels(rows: range, seed: int, rows_per_writer: int) -> np.ndarray:
    """int64 [n]: a writer writes the ten digits in a new order each turn, so ten rows of a turn are ten digits."""
    labels = []
    orders: dict[tuple[int, int], np.ndarray] = {}
    for row in rows:
        writer, within = divmod(row, rows_per_writer)
        turn, place = divmod(within, _NUM_DIGITS)
        if (writer, turn) not in orders:
            orders[writer, turn] = _generator(seed, _ORDER, writer, turn).permutation(_NUM_DIGITS)
        labels.append(orders[writer, turn][place])
    return np.array(labels, np.int64)


def _make_style(rows: range, labels: np.ndarray, seed: int, rows_per_writer: int) -> _Style:
    """The style of `rows`, which show `labels` int64 [n]."""
    first, last = rows[0] // rows_per_writer, rows[-1] // rows_per_writer
    # Per writer and per row, not per chunk, so that rows do not depend on how many are drawn at a time.
    writers = [_generator(seed, _WRITER, writer) for writer in range(first, last + 1)]
    writer_of = np.array([row // rows_per_writer - first for row in rows])
    examples = [_generator(seed, _ROW, row) for row in rows]

    normals = _Numbers(_normals(writers, _NUM_NORMALS)[writer_of], _normals(examples, _NUM_NORMALS))
    uniforms = _Numbers(_uniforms(writers, _NUM_UNIFORMS)[writer_of], _uniforms(examples, _NUM_UNIFORMS))
    shape = _FORMS.points.shape[1:]
    habit = _normals(writers, _NUM_DIGITS, *shape)[writer_of, labels]
    jitter = np.float32(_POINT_JITTER[0]) * habit + np.float32(_POINT_JITTER[1]) * _normals(examples, *shape)
    forms = _uniforms(writers, _NUM_DIGITS)[writer_of, labels]
    return _compose(forms, jitter, normals, uniforms, _uniforms(examples, IMAGE_SIZE**2))


def _compose(forms: np.ndarray, jitter: np.ndarray, normals: _Numbers, uniforms: _Numbers, loss: np.ndarray) -> _Style:
    habit, change = (1, 0), (0, 1)
    waves = (_NUM_WAVES, 2)
    warp = [normals.take(_WARP, *waves), 0.12 + 0.2 * uniforms.take(habit, *waves), 3 * normals.take((1, 0.3), *waves)]
    pressure = [normals.take(_PRESSURE), 1 + 3 * uniforms.take(change), uniforms.take(change)]
    dryness = uniforms.take(habit) ** 2
    has_gap = uniforms.take(change, _NUM_GAPS) < _GAP_RATE * dryness[:, None]
    gap_length = _GAP_LENGTH * (0.5 + uniforms.take(change, _NUM_GAPS)) * has_gap
    has_speck = uniforms.take(change) < _SPECK_RATE
    speck_at = (uniforms.take(change) * loss.shape[1]).astype(np.int64)
    worst_loss = _MAX_LOSS * uniforms.take((0.6, 0.4))
    gap_middle = uniforms.take(change, _NUM_GAPS)
    stray = (2 * uniforms.take(change, 2, 2) - 1) * _STRAY_REACH * (uniforms.take(change) < _STRAY_RATE)[:, None, None]
    return _Style(
        form=forms,
        jitter=jitter,
        linear=_linear(normals.take(_SLANT), normals.take(_ROTATION), _MEAN_ASPECT + normals.take(_ASPECT)),
        size=np.exp(normals.take(_SIZE)),
        shift=normals.take(_SHIFT, 2),
        warp=np.stack(warp, axis=-1),
        pen=_PEN_RADIUS * np.exp(normals.take(_PEN)),
        edge=_MEAN_EDGE * np.exp(normals.take(_EDGE)),
        pressure=np.stack(pressure, axis=-1),
        gaps=np.stack([gap_middle, gap_length], axis=-1),
        stray=stray,
        loss=loss * worst_loss[:, None],
        speck=np.where(has_speck, speck_at, -1),
    )


def _linear(slant: np.ndarray, rotation: np.ndarray, aspect: np.ndarray) -> np.ndarray:
    stretch, cos, sin = np.exp(aspect / 2), np.cos(rotation), np.sin(rotation)
    # rotation @ slant @ stretch; up is -y, so a slant to the right takes x from y.
    columns = [cos * stretch, -(cos * slant + sin) / stretch, sin * stretch, (cos - sin * slant) / stretch]
    return np.stack(columns, axis=-1).reshape(-1, 2, 2)


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([seed, *key])


def _normals(generators: list[np.random.Generator], *shape: int) -> np.ndarray:
    return np.stack([generator.standard_normal(shape, np.float32) for generator in generators])


def _uniforms(generators: list[np.random.Generator], *shape: int) -> np.ndarray:
    return np.stack([generator.random(shape, np.float32) for generator in generators])


def _pen_path(labels: np.ndarray, style: _Style) -> tuple[np.ndarray, np.ndarray]:
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


def _pressure(style: _Style, num_samples: int) -> np.ndarray:
    along = (np.arange(num_samples, dtype=np.float32) + 0.5) / num_samples
    amplitude, frequency, phase = style.pressure.T[..., None]
    pressure = 1 + amplitude * np.sin(2 * np.pi * (frequency * along + phase))
    middle, half = np.moveaxis(style.gaps, 2, 0)[..., None]
    return pressure * (np.abs(along - middle) >= half).all(axis=1)


def _add_stray(places: np.ndarray, weights: np.ndarray, style: _Style) -> tuple[np.ndarray, np.ndarray]:
    along = np.linspace(0, 1, _STRAY_SAMPLES, dtype=np.float32)[:, None]
    begin, way = style.stray[:, None, 0], style.stray[:, None, 1]
    step = np.hypot(way[..., 0], way[..., 1]) / _STRAY_SAMPLES
    stray_weights = np.repeat(step, _STRAY_SAMPLES, axis=1)
    return np.hstack([places, begin + along * way]), np.hstack([weights, stray_weights])


def _ink(places: np.ndarray, weights: np.ndarray, style: _Style) -> np.ndarray:
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
