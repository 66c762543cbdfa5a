"""Pen strokes of the ten Kannada numerals, and the curve through them.

A form is one way to write a numeral: strokes, each a list of points (x right, y down, in pixels of a 28x28 image) that
the pen passes in order. The points were set by hand; no pixel of Kannada-MNIST was copied. A point given twice is a
corner. Between points the pen follows a uniform Catmull-Rom spline (Catmull and Rom 1974, "A class of local
interpolating splines"), which is linear in its points: one matrix per form turns points into samples of the curve.
"""

from typing import NamedTuple

import numpy as np

NUM_SAMPLES = 96  # about 0.6 px apart on the longest form, less than half of the thinnest pen

_FORMS = (
    (
        "15,5 11.5,6 9,10.5 8.6,16 10.3,21.5 14,24 17.6,21.5 19.3,16 18.6,10 16.6,6.3 14,5",
        "17.5,4.5 13,5.5 9.6,9.5 8.6,15.5 10,21.5 13.5,24 17,22 19,16.5 18.6,10.5 16.5,7 12.5,6.5",
        "11,6 9,10 8.6,16 9.5,22 14,24 18.5,22 19.2,16 18.8,9 17,5 12.5,4.5 10.5,7",
    ),
    (
        "9,25 8.6,19 9.4,13 11.4,8 14.5,6 17.5,8 19.2,13 19.6,19 19,25",
        "9,16 9.4,11.5 11.8,7.5 15,6 18,8.2 19.2,13 19.2,19 18.6,25.5",
        "9,25 9.4,18 11,11.5 14,6 14.3,6 17.2,11.5 19,18 19.6,25",
    ),
    (
        "17.5,13 15,11.8 14,8 16,4.6 20,4.6 22.2,8.2 22,13 20,17.2 16,20 10,21.2 3,21.8",
        "19.5,16 16,12.6 15,7.6 17.8,4.2 21.3,5.8 22.2,10.8 20.2,16 16,19.6 10,21.2 3,22.2",
        "18.5,19.5 15.6,16.6 16,12 19,9 21.6,11 21.6,16 19,19.6 14,20 8,20 2.5,20.2",
        "16.5,12 15.4,8.6 17.6,6 20.6,7.6 21.4,12 20.2,16.8 16.6,19 10.4,19 4.8,19.6 2.2,22 4,23.6",
    ),
    (
        "10.8,8.6 11.6,5.4 14.6,4 17.4,6.6 17.6,12 16,17 13,21.4 10.2,22.4 9.2,19.6 10.8,16.8 "
        "14,16.6 17,19.4 20.2,23.6",
        "14,9.8 11.2,9.4 11.2,5.8 14.4,4 17,6.2 17.4,11.4 15.8,17 12.8,21.6 10,22.2 9.2,19.4 11,16.8 "
        "14.2,17 17,20 20,23.6",
        "10.4,6.6 13.6,4.2 17,6.4 17.8,11.4 17.6,15.8 17.6,15.8 10.4,16.2 9.4,22.4 13.4,21.6 "
        "16.8,17.6 18.4,20.4 20.4,23.6",
    ),
    (
        "11.6,9.4 13.4,7.8 12.2,5.4 10.2,6.6 9.8,10 11.4,14 14.4,17 17,20.4 16.6,23.8 14,25 12.3,22.8 13.6,19.2 16,15 "
        "18.4,10 20,5",
        "9.4,5 10.4,10 13.4,15.2 16.8,19.8 17,23.2 14.2,25 12,23 13.2,19 16,14.4 18.4,10 20,5",
        "8.8,4.4 12.8,10 17.6,16.6 19,21.4 15.2,24.4 10.4,23.4 9.4,19.2 13,13.6 16.4,9.2 19.6,4.6",
        "12.6,9 10.6,10.4 9.6,7.6 11.6,5.4 13.4,8 12.2,12.6 13,16 16,18.6 17.2,22 15,24.8 12.4,23.6 13,20 15.6,16.4 "
        "19,12.6 19.6,5.4",
    ),
    (
        "8.4,10 8,7 10.4,5 13.4,6.4 14.2,11 13.4,17 11.4,22 8.6,23.6 7.8,20.8 9.6,17.6 13,16.6 17,16.2 20,15.8"
        "|19.2,5 19.6,12 19.6,18 20,24.6",
        "8.6,10 8.2,7 10.4,5 13,6.6 13.4,11 12.4,17 10.6,22 8,23 7.6,20 9.6,17.4 13,16.6 16.8,15 19.6,10.6 20.2,6.6 "
        "18.6,5 17.2,8 17,14 17.6,20 19,24.6",
        "11.4,10.6 8.4,10.6 8,6.8 10.8,5 13.2,7.4 12.8,12.4 12.4,17.6 10.6,22.4 8,23.6 7.4,20.6 9.4,17.8 13.4,17 "
        "17,16.6 20,16|18.4,5 20.4,6.4 19.4,12 19,18 19.6,24.6",
    ),
    (
        "15,2.6 11.8,4.2 11.2,8 12.6,10.8 16,12 11.6,13.8 9,17.4 10.4,20.8 15,21 20,20 25,18.4",
        "13.6,2.4 10.6,4.8 11,9 13,11 15.4,11.4 12.4,14 9.6,18.6 9.2,21.4 9.2,21.4 14.6,21.6 20,21.4 25,21.2",
        "16.4,2.4 12,4.4 11.2,8.6 13.8,11.2 16.2,12.4 12.2,14.2 10.4,18 12,21.6 15.4,22 18.4,20.8 21.4,18.6",
    ),
    (
        "9.8,8 11,5 14,3.4 16.8,6 16,11 13.2,17 10.2,22.2 10.2,22.2 15,21.6 20,21.2 24.4,20.8",
        "13,9.6 10.2,8.8 10.2,5.4 13.2,3.4 16.6,5.4 16.4,10.4 13.8,16 11,21.6 11,21.6 15,21.8 19.6,21.4 23.8,20.6",
        "11.8,8.4 11,6 14,3.6 17.2,6 16.2,10.4 12.6,14.6 10.2,19 12.2,22.8 16.6,22.8 20.6,20.4",
        "10,5.8 14.4,3.6 17,6.8 15.6,12 13,17.6 10.8,21.8 9.8,23 12.6,20.6 16.4,21.8 20.4,22 23.8,19",
    ),
    (
        "8.4,13.4 12,12.2 13,8.6 11,6 8.3,8.5 7.8,14 9,20 12.5,24 16.5,23 19,18 19.4,13 "
        "19,9|18.6,9.6 21.6,8.6 25.5,7.6",
        "9.6,5.6 8.3,10 8,16 10,22 14,24.4 17,21.4 17.9,15.4 18,9.6|17.4,9.4 20,9.2 25.4,8.8",
        "11.6,13.4 12.4,10 10.4,6.8 8.2,10 8,16 10.2,22 14,24 17.2,20.8 17.6,14.6 18.6,9.8 21.4,9.4 25.4,6.6",
        "12,6.6 9,7.4 7.6,12.6 8.4,19.4 12,23.8 16.4,22.6 18.2,17.6 17.6,11.6 18,8.6|17.4,8.8 21,9.6 25,8.8",
    ),
    (
        "24.4,6 18,6.4 12.6,8 10,11 11.4,13.6 15,14.6 11.4,16.2 9.8,19.6 11,23.2 14,24.6 17,23.2 18,20.4",
        "25,6.4 18,7.2 10.6,8 10.6,8 10.2,12 11.6,14.8 15.8,15 11.6,16.4 10.4,20 11.2,24.4 14.4,25 17,24",
        "22,5.6 15.4,7.4 10.6,11.4 12.2,14.4 14,15 10.6,17.6 9.4,21.4 12,24.4 17,24",
    ),
)


class Forms(NamedTuple):
    """All forms of all numerals, padded to the same number of points."""

    points: np.ndarray  # float32 [forms, points, 2], pixels, the centre of the form's box at 0
    position: np.ndarray  # float32 [forms, samples, points]; times the points: places on the curve
    velocity: np.ndarray  # float32 [forms, samples, points]; times the points: the pen's way between two samples
    first_form: np.ndarray  # int64 [10], of each numeral
    num_forms: np.ndarray  # int64 [10], of each numeral


def make_forms() -> Forms:
    """Parse the table above and build its matrices."""
    forms = [_parse(text) for texts in _FORMS for text in texts]
    num_points = max(sum(map(len, strokes)) for strokes in forms)
    points = np.zeros((len(forms), num_points, 2), np.float32)
    position, velocity = np.zeros((2, len(forms), NUM_SAMPLES, num_points), np.float32)
    for form, strokes in enumerate(forms):
        joined = np.concatenate(strokes)
        points[form, : len(joined)] = joined - (joined.min(axis=0) + joined.max(axis=0)) / 2
        position[form, :, : len(joined)], velocity[form, :, : len(joined)] = _matrices(strokes)
    count = np.array([len(texts) for texts in _FORMS])
    return Forms(points, position, velocity, np.cumsum(count) - count, count)


def _parse(text: str) -> list[np.ndarray]:
    strokes = [[point.split(",") for point in stroke.split()] for stroke in text.split("|")]
    return [np.array(stroke, dtype=np.float64) for stroke in strokes]


def _matrices(strokes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity of one form, whose samples are dealt to its strokes by their lengths."""
    lengths = np.array([np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in strokes])
    ends = np.rint(np.cumsum(lengths) / lengths.sum() * NUM_SAMPLES).astype(int)
    position, velocity = np.zeros((2, NUM_SAMPLES, sum(map(len, strokes))))
    sample = point = 0
    for stroke, end in zip(strokes, ends, strict=True):
        block = np.s_[sample:end, point : point + len(stroke)]
        position[block], velocity[block] = _catmull_rom(len(stroke), end - sample)
        sample, point = end, point + len(stroke)
    return position, velocity


def _catmull_rom(num_points: int, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and steps of a uniform Catmull-Rom spline as matrices [samples, points]; the ends are doubled."""
    step = (num_points - 1) / num_samples
    along = (np.arange(num_samples) + 0.5) * step
    segment = np.minimum(along.astype(int), num_points - 2)
    t = (along - segment)[:, None]
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3])
    slopes = 0.5 * np.hstack([-1 + 4 * t - 3 * t**2, -10 * t + 9 * t**2, 1 + 8 * t - 9 * t**2, -2 * t + 3 * t**2])
    position, velocity = np.zeros((2, num_samples, num_points))
    rows = np.arange(num_samples)
    for neighbour in range(4):
        columns = np.clip(segment + neighbour - 1, 0, num_points - 1)
        np.add.at(position, (rows, columns), weights[:, neighbour])
        np.add.at(velocity, (rows, columns), slopes[:, neighbour] * step)
    return position, velocity
