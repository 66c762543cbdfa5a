"""How files are read: options of every reader, with all that help and validation of a command line need."""

import dataclasses
import math
from typing import TYPE_CHECKING

from pipeline.cli import check_settings, setting
from pipeline.errors import InputError

if TYPE_CHECKING:
    import msgspec

    from pipeline.format.manifest import Reading

BLOCK_BYTES = 2 << 20  # larger ones cost memory and gain nothing
MAX_CHANNELS = 4  # gray, gray and alpha, RGB, RGBA; more are rather a height or width in the wrong place
PLANES = "CHW"
BLANKS = r"\s+"  # one or more of them, as pandas writes it
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "blanks": BLANKS, "blank": BLANKS, "space": BLANKS, " ": BLANKS}
_TEXT, _PIXELS = "how tables of text are read", "how pixels are read"
_FILES = "how images are changed, and image files found"


def _column(usual: str) -> str:
    return f"name or 0-based index, or none (default: {usual})"


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How images are read and changed, whatever file holds them; None: as the file says.

    Raises:
        InputError: an option is out of range.
    """

    image_shape: tuple[int, int, int] | None = setting(
        None, "required unless images are square and gray", nargs=3, metavar=("H", "W", "C"), type=int, group=_PIXELS
    )
    layout: str | None = setting(
        None,
        "an image's values: all channels of a pixel, then the next (HWC), or planes (default: HWC, or as named)",
        choices=("HWC", PLANES),
        group=_PIXELS,
    )
    transpose: bool = setting(False, "images are stored column by column, as those of EMNIST", group=_PIXELS)
    pixel_range: tuple[float, float] | None = setting(
        None,
        "values of black and white, such as 0 1 or -1 1, scaled to 0 and 255 (default: not scaled)",
        nargs=2,
        metavar=("LO", "HI"),
        type=float,
        group=_PIXELS,
    )
    image_size: tuple[int, int] | None = setting(
        None,
        "resize images, antialiased (default: all must have one size)",
        nargs=2,
        metavar=("H", "W"),
        type=int,
        group=_FILES,
    )
    channels: int | None = setting(None, "1 makes images gray, 3 RGB (default: as stored)", group=_FILES)

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_image_shape()
        if self.image_size is not None and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise InputError(f"--image-size {' '.join(map(str, self.image_size))} must be two positive integers")
        if self.channels not in (None, 1, 3):
            raise InputError(f"--channels {self.channels} must be 1 (gray) or 3 (RGB)")
        if self.pixel_range is not None:
            low, high = self.pixel_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(f"--pixel-range {low:g} {high:g}: give two numbers, the smaller one first")

    @property
    def changes_pixels(self) -> bool:
        """Whether pixels are stored otherwise than the file has them."""
        kept = (self.pixel_range, self.image_size, self.channels) == (None, None, None)
        return self.layout == PLANES or self.transpose or not kept

    @property
    def reading(self) -> "Reading | msgspec.UnsetType":
        """What a data set remembers of these options."""
        import msgspec  # here, because --help needs the options alone

        from pipeline.format.manifest import Reading

        values = {name: getattr(self, name) for name in Reading.__struct_fields__}
        return Reading(**values) if any(values.values()) else msgspec.UNSET

    def fitted(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of stored images, given that of the file's: resized, and with other channels, if asked for."""
        height, width = self.image_size or shape[:2]
        return height, width, self.channels or shape[2]

    @property
    def notes(self) -> tuple[str, ...]:
        """What to report of changes to all images."""
        if self.image_size is None:
            return ()
        height, width = self.image_size
        return (f"images are resized to {height} x {width} (bilinear, antialiased; proportions are not kept)",)

    def _check_image_shape(self) -> None:
        if self.image_shape is None:
            return
        text = " ".join(map(str, self.image_shape))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise InputError(f"--image-shape {text} must be three positive integers")
        first, second, last = self.image_shape
        if last > MAX_CHANNELS >= first and self.layout != "HWC":
            raise InputError(
                f"--image-shape {text} means {last} channels; for {first} planes of {second} x {last} give "
                f"--image-shape {second} {last} {first} --layout CHW, for {last} channels add --layout HWC"
            )
        if last > MAX_CHANNELS and self.layout is None:
            raise InputError(f"--image-shape {text} means {last} channels; if it does, add --layout HWC or CHW")


@dataclasses.dataclass(frozen=True)
class ReadOptions(ImageOptions):
    """How a file is read; None: found by looking at the file. `block_bytes` changes no row.

    Raises:
        InputError: an option is out of range.
    """

    has_header: bool = setting(True, "the first line is data", flag="--no-header", group=_TEXT)
    label_column: str | None = setting(None, _column("label, class, digit, ..."), metavar="COLUMN", group=_TEXT)
    id_column: str | None = setting(None, _column("id, image_id, index, ..."), metavar="COLUMN", group=_TEXT)
    drop_column: tuple[str, ...] = setting(
        (), "a column to ignore; repeat it for more", metavar="COLUMN", repeat=True, group=_TEXT
    )
    text_column: tuple[str, ...] = setting(
        (),
        "the label or id column, if its values are names although the first one is a number; repeat it for both",
        metavar="COLUMN",
        repeat=True,
        group=_TEXT,
    )
    one_hot_labels: int | None = setting(
        None, "the label is N columns of 0 and 1, one per class, after all pixels or before them", group=_TEXT
    )
    separator: str | None = setting(
        None, "of values: a character, tab or blanks (default: comma, or what the first line has)", group=_TEXT
    )
    image_path: str | None = setting(
        None,
        "where the images of a CSV lie, relative to it, as 'train/{id}.png' with the name of a column",
        metavar="PATTERN",
        group=_FILES,
    )
    block_bytes: int = BLOCK_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.one_hot_labels is not None and self.one_hot_labels < 2:
            raise InputError(f"--one-hot-labels {self.one_hot_labels} must be at least 2")
        if self.separator is not None and self.separator not in _SEPARATORS and len(self.separator) != 1:
            raise InputError(f"--separator {self.separator!r}: give one character, tab or blanks")

    @property
    def separates_by(self) -> str | None:
        """The separator as pandas takes it; None to look for it."""
        return None if self.separator is None else _SEPARATORS.get(self.separator, self.separator)
