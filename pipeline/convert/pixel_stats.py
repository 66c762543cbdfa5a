"""Mean and standard deviation of pixels, exact whatever the order and the portions in which images come."""

import math

import numpy as np

# float32 holds integers up to 2**24, and 256 squares of at most 255 sum to less, so no sum below is ever rounded.
_ROWS = 256


class PixelStats:
    """Integer sums a channel; merge them in any order."""

    def __init__(self, num_channels: int):
        self._count = 0
        self._sums = [0] * num_channels
        self._squares = [0] * num_channels

    @classmethod
    def of(cls, images: np.ndarray, num_channels: int) -> "PixelStats":
        """Sums over images uint8 [n, H*W*C]."""
        stats = cls(num_channels)
        sums, squares = np.zeros(images.shape[1]), np.zeros(images.shape[1])
        buffer = np.empty((min(_ROWS, len(images)), images.shape[1]), np.float32)
        for start in range(0, len(images), _ROWS):
            values = buffer[: len(images) - start]
            np.copyto(values, images[start : start + _ROWS])
            sums += values.sum(axis=0)
            squares += np.einsum("ij,ij->j", values, values)
        stats._count = images.size // num_channels
        stats._sums = _by_channel(sums, num_channels)
        stats._squares = _by_channel(squares, num_channels)
        return stats

    def merge(self, other: "PixelStats") -> None:
        self._count += other._count
        self._sums = [a + b for a, b in zip(self._sums, other._sums, strict=True)]
        self._squares = [a + b for a, b in zip(self._squares, other._squares, strict=True)]

    @property
    def mean(self) -> tuple[float, ...]:
        """One value a channel, in pixel units (0..255)."""
        return tuple(total / self._count for total in self._sums)

    @property
    def std(self) -> tuple[float, ...]:
        """The population's standard deviation, one value a channel, in pixel units."""
        n = self._count
        return tuple(
            math.sqrt(n * square - total * total) / n for total, square in zip(self._sums, self._squares, strict=True)
        )


def _by_channel(values: np.ndarray, num_channels: int) -> list[int]:
    return [int(total) for total in values.reshape(-1, num_channels).sum(axis=0)]
