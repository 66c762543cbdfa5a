"""Which preset and which background suit images, from their borders."""

import numpy as np

_TOLERANCE = 32  # grey levels that a background may vary by
_BACKGROUND = 0.7  # share of the border that is background around glyphs; 0.76 in the 8x8 digits of scikit-learn
_MAX_IMAGES = 2000  # looked at, evenly spread


def choose_preset(images: np.ndarray) -> str:
    """The preset of `strengths.PRESETS` for images uint8 [n, H, W, C]: "digits" if they are glyphs, else "photos"."""
    return "digits" if glyph_like(images) else "photos"


def glyph_like(images: np.ndarray) -> bool:
    """Whether images uint8 [n, H, W, C] are glyphs: one channel, and a border of about one grey level.

    Objects on a plain background count too: unmirrored objects cost little, mirrored letters are wrong.
    """
    if images.shape[3] != 1 or not len(images):
        return False
    border = _border(images)
    near = np.abs(border - np.median(border)) <= _TOLERANCE
    return bool(near.mean() >= _BACKGROUND)


def is_dark_background(images: np.ndarray) -> bool:
    """Whether the median of the border of images uint8 [n, H, W, C] is below 128; true if there are none."""
    return not len(images) or bool(np.median(_border(images)) < 128)


def _border(images: np.ndarray) -> np.ndarray:
    """Outermost pixels of evenly spread images, int16 [any number, C]."""
    images = images[:: -(-len(images) // _MAX_IMAGES)]
    lines = images[:, [0, -1]], images[:, 1:-1, [0, -1]]
    return np.concatenate([line.reshape(-1, images.shape[3]) for line in lines]).astype(np.int16)
