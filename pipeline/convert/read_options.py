"""How files are read: options of every reader, with all that help and validation of a command line need."""

import dataclasses
import math

from pipeline.cli import setting
from pipeline.errors import InputError

BLOCK_BYTES = 2 << 20  # larger ones cost memory and gain nothing
MAX_CHANNELS = 4  # gray, gray and alpha, RGB, RGBA; more are rather a height or width in the wrong place
_COLUMNS, _PIXELS = "columns", "pixels"
_COLUMN = "name or 0-based index, or none"


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How a file is read; None: found by looking at the file. `block_bytes` changes no row.

    Raises:
        InputError: an option is out of range.
    """

    has_header: bool = setting(True, "the first line is data", flag="--no-header", group=_COLUMNS)
    label_column: str | None = setting(None, f"{_COLUMN} (default: label, class, digit, ...)", group=_COLUMNS)
    id_column: str | None = setting(None, f"{_COLUMN} (default: id, image_id, index, ...)", group=_COLUMNS)
    drop_column: tuple[str, ...] = setting(
        (), "a column to ignore; repeat it for more", metavar="COLUMN", repeat=True, group=_COLUMNS
    )
    one_hot_labels: int | None = setting(
        None, "the label is N columns of 0 and 1, one per class: the last ones (default: one column)", group=_COLUMNS
    )
    separator: str | None = setting(
        None, "between values: a character, tab or blanks (default: comma, or what the first line has)", group=_COLUMNS
    )
    image_shape: tuple[int, int, int] | None = setting(
        None, "required unless images are square and gray", nargs=3, metavar=("H", "W", "C"), type=int, group=_PIXELS
    )
    layout: str | None = setting(
        None,
        "order of values: channels of a pixel together, or planes (default: HWC, or what column names say)",
        choices=("HWC", "CHW"),
        group=_PIXELS,
    )
    transpose: bool = setting(False, "pictures are stored column by column, as those of EMNIST", group=_PIXELS)
    pixel_range: tuple[float, float] | None = setting(
        None,
        "values of black and white, scaled to 0 and 255, such as 0 1 or -1 1 (default: 0 255, not scaled)",
        nargs=2,
        metavar=("LO", "HI"),
        type=float,
        group=_PIXELS,
    )
    block_bytes: int = BLOCK_BYTES

    def __post_init__(self) -> None:
        self._check_image_shape()
        if self.pixel_range is not None:
            low, high = self.pixel_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(f"--pixel-range {low:g} {high:g}: give two numbers, the smaller one first")

    def _check_image_shape(self) -> None:
        if self.image_shape is None:
            return
        text = " ".join(map(str, self.image_shape))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise InputError(f"--image-shape {text} must be three positive integers")
        first, second, last = self.image_shape
        if last > MAX_CHANNELS >= first and self.layout != "HWC":
            raise InputError(
                f"--image-shape {text} is height, width, channels: {last} channels; for {first} planes of {second} x "
                f"{last} give --image-shape {second} {last} {first} --layout CHW, for {last} channels add --layout HWC"
            )
        if last > MAX_CHANNELS and self.layout is None:
            raise InputError(f"--image-shape {text}: {last} channels; if that is meant, add --layout HWC or CHW")
