"""The checks of every figure, beyond a look at it: a readable PNG, and nothing cut off at its border."""

import matplotlib.image
import numpy as np

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LONG = ("no finding", "an extraordinarily long name of a class that no axis has room for")
ODD = ("$x$", "[b]_^{", "\u0ce6\u0ce7", "a\nb\tc")
MANY = tuple(f"character {k}" for k in range(130))
THOUSANDS = tuple(f"character {k}" for k in range(3000))


def check_picture(path):
    """It has a white border and something inside, is not huge, and alone in its directory."""
    pixels = matplotlib.image.imread(path)[..., :3]
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 1).all()
    assert (pixels < 0.5).any()
    assert max(pixels.shape) < 4000
    assert list(path.parent.iterdir()) == [path]


def count_pixels(path, color):
    """Pixels of a PNG that have about this color (red, green, blue: 0..255)."""
    pixels = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
    return int((np.abs(pixels - color).sum(axis=-1) < 6).sum())


def images(rows, image_shape):
    return (np.arange(rows * np.prod(image_shape)) * 37 % 256).astype(np.uint8).reshape(rows, *image_shape)


def probabilities(rows, num_classes):
    return np.random.default_rng(0).dirichlet(np.ones(num_classes), rows).astype(np.float32)
