"""Writers, and how each of their rows differs: the random part of the sample, apart from its geometry.

Every quantity has a writer's habit and a smaller change from row to row. A writer's numbers come from a generator keyed
by (seed, writer), a row's from one keyed by (seed, row), so they do not depend on how many rows are drawn. The amounts
were set by eye beside Kannada-MNIST, and so that class means alone err about as often (17 %; there 13 %).
"""

from typing import NamedTuple

import numpy as np

NUM_DIGITS = 10
_WRITER, _ROW, _ORDER = range(3)  # part of a generator's key, so that no two share one
_NUM_GAPS = 2  # at most, in a row's ink
_NUM_WAVES = 2  # of the smooth warp, per axis
_NUM_NORMALS, _NUM_UNIFORMS = 64, 32  # how many numbers a key gives, more than are used

# (habit of the writer, change from row to row) as standard deviations
_POINT_JITTER = (0.65, 0.35)  # pixels
_SLANT = (0.17, 0.07)  # pixels of x per pixel of y
_ROTATION = (0.07, 0.05)  # radians
_ASPECT = (0.16, 0.07)  # log of width over height
_MEAN_ASPECT = -0.1
_SIZE = (0.03, 0.03)  # log
_SHIFT = (0.0, 0.5)  # pixels
_WARP = (0.4, 0.3)  # pixels
_PEN = (0.24, 0.10)  # log of the pen's radius
_PRESSURE = (0.15, 0.10)  # relative ink along the stroke
_EDGE = (0.35, 0.1)  # log of the steepness: scans of this kind range from grey to black and white

_MEAN_EDGE = 1.4
_PEN_RADIUS = 0.84  # pixels
_GAP_RATE = 0.5  # how often a gap appears where the writer's pen is at its driest
_GAP_LENGTH = 0.025  # half of it, as a share of the form
_STRAY_RATE, _SPECK_RATE = 0.03, 0.06  # shares of the rows
_STRAY_REACH = np.array([[12], [7]], np.float32)  # pixels: of its beginning, of its way
_MAX_LOSS = 0.35  # of a pixel's ink, in the worst scan


class Style(NamedTuple):
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
    stray: np.ndarray  # [n, 2, 2], where a stray line begins, pixels from the centre, and its way to the end
    has_stray: np.ndarray  # bool [n]
    loss: np.ndarray  # [n, pixels], the share of ink that each pixel lacks
    speck: np.ndarray  # int64 [n], the pixel that dirt blackens, or -1


class _Numbers:
    """Random numbers of n rows, handed out column by column; no two calls get the same ones."""

    def __init__(self, habits: np.ndarray, changes: np.ndarray) -> None:
        self._habits, self._changes, self._used = habits, changes, 0

    def take(self, amounts: tuple[float, float], *shape: int) -> np.ndarray:
        """[n, *shape]: `amounts[0]` times the writer's numbers plus `amounts[1]` times the row's."""
        start, self._used = self._used, self._used + int(np.prod(shape))
        if self._used > self._habits.shape[1]:
            raise ValueError(f"{self._used} numbers per row requested, {self._habits.shape[1]} drawn")
        columns = np.s_[:, start : self._used]
        mixed = np.float32(amounts[0]) * self._habits[columns] + np.float32(amounts[1]) * self._changes[columns]
        return mixed.reshape(-1, *shape)


def make_labels(rows: range, seed: int, rows_per_writer: int) -> np.ndarray:
    """int64 [n]: a writer writes the ten digits in a new order each turn, so ten rows of a turn are ten digits."""
    labels = np.empty(len(rows), np.int64)
    turn, order = (-1, -1), labels
    for index, row in enumerate(rows):
        writer, within = divmod(row, rows_per_writer)
        if turn != (writer, within // NUM_DIGITS):
            turn = writer, within // NUM_DIGITS
            order = _generator(seed, _ORDER, *turn).permutation(NUM_DIGITS)
        labels[index] = order[within % NUM_DIGITS]
    return labels


def make_style(
    rows: range, labels: np.ndarray, seed: int, rows_per_writer: int, points_shape: tuple[int, int], num_pixels: int
) -> Style:
    """The style of `rows`, which show `labels` int64 [n], for forms of `points_shape` [points, 2]."""
    first, last = rows[0] // rows_per_writer, rows[-1] // rows_per_writer
    writers = [_generator(seed, _WRITER, writer) for writer in range(first, last + 1)]
    writer_of = np.array([row // rows_per_writer - first for row in rows])
    examples = [_generator(seed, _ROW, row) for row in rows]

    normals = _Numbers(_normals(writers, _NUM_NORMALS)[writer_of], _normals(examples, _NUM_NORMALS))
    uniforms = _Numbers(_uniforms(writers, _NUM_UNIFORMS)[writer_of], _uniforms(examples, _NUM_UNIFORMS))
    points = _Numbers(
        _normals(writers, NUM_DIGITS, *points_shape)[writer_of, labels].reshape(len(rows), -1),
        _normals(examples, *points_shape).reshape(len(rows), -1),
    )
    forms = _uniforms(writers, NUM_DIGITS)[writer_of, labels]
    loss = _uniforms(examples, num_pixels)
    return _compose(forms, points.take(_POINT_JITTER, *points_shape), normals, uniforms, loss)


def _compose(forms: np.ndarray, jitter: np.ndarray, normals: _Numbers, uniforms: _Numbers, loss: np.ndarray) -> Style:
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
    return Style(
        form=forms,
        jitter=jitter,
        linear=_linear(normals.take(_SLANT), normals.take(_ROTATION), _MEAN_ASPECT + normals.take(_ASPECT)),
        size=np.exp(normals.take(_SIZE)),
        shift=normals.take(_SHIFT, 2),
        warp=np.stack(warp, axis=-1),
        pen=_PEN_RADIUS * np.exp(normals.take(_PEN)),
        edge=_MEAN_EDGE * np.exp(normals.take(_EDGE)),
        pressure=np.stack(pressure, axis=-1),
        gaps=np.stack([uniforms.take(change, _NUM_GAPS), gap_length], axis=-1),
        stray=(2 * uniforms.take(change, 2, 2) - 1) * _STRAY_REACH,
        has_stray=uniforms.take(change) < _STRAY_RATE,
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
