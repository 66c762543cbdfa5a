"""Layouts of `tests.helpers.layouts` that differ in the order or the range of pixels; importing this adds them."""

import numpy as np

from tests.helpers.layouts import (
    COLORED,
    FLAT,
    HEADER,
    IMAGES,
    LABELS,
    NUM_ROWS,
    NUMBERS,
    SIDE,
    Case,
    labelled,
    layout,
    text_of,
    write,
)


@layout("pixels from 0 to 1")
def _(folder):
    rows = labelled(LABELS, (np.array(FLAT) / 255).tolist())
    return Case([write(folder, text_of(HEADER, rows)), "--pixel-range", "0", "1"], IMAGES, NUMBERS)


@layout("pixels from -1 to 1")
def _(folder):
    rows = labelled(LABELS, (np.array(FLAT) / 127.5 - 1).tolist())
    return Case([write(folder, text_of(HEADER, rows)), "--pixel-range", "-1", "1"], IMAGES, NUMBERS)


@layout("UCI digits: 0 to 16, unscaled")
def _(folder):
    small = IMAGES // 16 + (IMAGES == 255)
    rows = labelled(LABELS, small.reshape(NUM_ROWS, -1).tolist())
    says = ("the largest pixel is 16, far below 255", "--pixel-range 0 16")
    return Case([write(folder, text_of(HEADER, rows))], small.astype(np.uint8), NUMBERS, says=says)


@layout("a range that is too wide")
def _(folder):
    rows = labelled(LABELS, (IMAGES // 16).reshape(NUM_ROWS, -1).tolist())
    images = np.rint(IMAGES // 16 * (255 / 51)).astype(np.uint8)
    says = ("the largest pixel is 75, far below 255", "--pixel-range 0 15 ")
    return Case([write(folder, text_of(HEADER, rows)), "--pixel-range", "0", "51"], images, NUMBERS, says=says)


@layout("UCI digits: 0 to 16, scaled; no header, label last")
def _(folder):
    small = (IMAGES // 16).reshape(NUM_ROWS, -1).tolist()
    rows = [[*row, label] for row, label in zip(small, LABELS, strict=True)]
    args = [write(folder, text_of(None, rows)), "--no-header", "--label-column=16", "--pixel-range", "0", "16"]
    return Case(args, np.rint((IMAGES // 16) * (255 / 16)).astype(np.uint8), NUMBERS)


@layout("CIFAR-10: planes")
def _(folder):
    planes = np.moveaxis(COLORED, -1, 1).reshape(NUM_ROWS, -1).tolist()
    header = ["label", *(f"pixel{k}" for k in range(SIDE * SIDE * 3))]
    return Case([write(folder, text_of(header, labelled(LABELS, planes))), "--layout=CHW"], COLORED, NUMBERS)


@layout("planes by their names")
def _(folder):
    planes = np.moveaxis(COLORED, -1, 1).reshape(NUM_ROWS, -1).tolist()
    header = ["label", *(f"{color}_{k}" for color in "rgb" for k in range(SIDE * SIDE))]
    return Case([write(folder, text_of(header, labelled(LABELS, planes)))], COLORED, NUMBERS, says=("planes",))


@layout("colors of a pixel together by their names")
def _(folder):
    header = ["label", *(f"{color}{k}" for k in range(SIDE * SIDE) for color in ("red", "green", "blue"))]
    rows = labelled(LABELS, COLORED.reshape(NUM_ROWS, -1).tolist())
    return Case([write(folder, text_of(header, rows))], COLORED, NUMBERS, says=("channels of a pixel together",))


@layout("colors of a pixel together, by shape")
def _(folder):
    header = ["label", *(f"pixel{k}" for k in range(SIDE * SIDE * 3))]
    rows = labelled(LABELS, COLORED.reshape(NUM_ROWS, -1).tolist())
    return Case([write(folder, text_of(header, rows)), "--image-shape", "4", "4", "3"], COLORED, NUMBERS)


@layout("EMNIST: turned pictures, no header")
def _(folder):
    rows = labelled(LABELS, IMAGES.swapaxes(1, 2).reshape(NUM_ROWS, -1).tolist())
    args = [write(folder, text_of(None, rows)), "--no-header", "--label-column=0", "--transpose"]
    return Case(args, IMAGES, NUMBERS)


@layout("turned pictures that are not square")
def _(folder):
    wide = IMAGES.reshape(NUM_ROWS, 2, 8, 1)
    rows = labelled(LABELS, wide.swapaxes(1, 2).reshape(NUM_ROWS, -1).tolist())
    args = [write(folder, text_of(HEADER, rows)), "--transpose", "--image-shape", "2", "8", "1"]
    return Case(args, wide, NUMBERS)
