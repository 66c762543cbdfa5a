"""Mean and standard deviation of pixels, exact whatever the order and the portions in which images come."""

import math

import msgspec
import numpy as np

# float32 holds integers up to 2**24, and 256 squares of at most 255 sum to less, so no sum below is ever rounded.
_ROWS = 256


class PixelStats(msgspec.Struct, frozen=True):
    """Exact sums over pixels, per channel, and the largest pixel; add them in any order."""

    count: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    largest: int = 0

    @classmethod
    def of(cls, images: np.ndarray, num_channels: int) -> "PixelStats":
        """Sums over images uint8 [n, H*W*C]."""
        sums, squares = np.zeros(images.shape[1]), np.zeros(images.shape[1])
        largest = 0
        buffer = np.empty((min(_ROWS, len(images)), images.shape[1]), np.float32)
        for start in range(0, len(images), _ROWS):
            values = buffer[: len(images) - start]
            part = images[start : start + _ROWS]
            largest = max(largest, int(part.max()))
            np.copyto(values, part)
            sums += values.sum(axis=0)
            squares += np.einsum("ij,ij->j", values, values)
        count = images.size // num_channels
        return cls(count, _by_channel(sums, num_channels), _by_channel(squares, num_channels), largest)

    def __add__(self, other: "PixelStats") -> "PixelStats":
        return PixelStats(
            self.count + other.count,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
            max(self.largest, other.largest),
        )

    @property
    def mean(self) -> tuple[float, ...]:
        """One value per channel, in pixel units (0..255)."""
        return tuple(total / self.count for total in self.sums)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the population, one value per channel, in pixel units."""
        # In Python's integers, because the difference of two large floats would lose its digits.
        pairs = zip(self.sums, self.squares, strict=True)
        return tuple(math.sqrt(self.count * square - total * total) / self.count for total, square in pairs)


def _by_channel(values: np.ndarray, num_channels: int) -> tuple[int, ...]:
    return tuple(int(total) for total in values.reshape(-1, num_channels).sum(axis=0))
