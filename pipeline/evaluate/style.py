"""What all figures share: size, fonts, colours, names that can be drawn, and a file that is complete or absent."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.files import replacing

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color).
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"
RED = "#C1121F"  # for what is wrong; dark enough for text, and not to be confused with the blue

_DPI = 120
_FONT = "DejaVu Sans"  # comes with matplotlib, so that figures look the same everywhere
_INCHES_PER_CHARACTER = 0.08  # at the font size below, a little more than the average
_MAX_TICKS = 60
_STYLE: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 11,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    # Names of classes and splits are data: "$x$" is not a formula.
    "text.parse_math": False,
}


@contextlib.contextmanager
def drawing(path: str | os.PathLike | BinaryIO, width: float, height: float) -> Iterator["Figure"]:
    """Give an empty figure of width x height inches; at the end it is written to `path`, or an open file, as PNG.

    Constrained layout makes room for all text. The figure is not one of pyplot's: no window system, nothing to close.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with contextlib.nullcontext(path) if hasattr(path, "write") else replacing(path) as target:
            figure.savefig(target, dpi=_DPI, format="png", bbox_inches="tight", pad_inches=0.1)


def shorten(name: str, length: int = 24) -> str:
    """`name` as it can be drawn: at most `length` characters, those without a glyph as their code points."""
    drawable = "".join(char if _has_glyph(char) else f"U+{ord(char):04X}" for char in name[:length])
    return drawable if len(name) <= length >= len(drawable) else drawable[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def names_length(names: Sequence[str], length: int = 24) -> float:
    """Inches to plan for the longest of the names, drawn with at most `length` characters."""
    return _INCHES_PER_CHARACTER * max(len(shorten(name, length)) for name in names)


def names_height(class_names: Sequence[str], inches_per_class: float) -> float:
    """Inches that the names need below an x axis: if they do not fit side by side they are turned upright."""
    length = names_length(class_names)
    return length if length > 0.9 * inches_per_class * _tick_step(class_names) else 0.0


def label_classes(axis: "Axis", class_names: Sequence[str], upright: bool = False) -> None:
    """Name classes 0.. along an axis; of very many every k-th."""
    step = _tick_step(class_names)
    names = [shorten(name) for name in class_names[::step]]
    axis.set_ticks(range(0, len(class_names), step), names, rotation=90 if upright else 0)
    axis.set_tick_params(length=0)


def _tick_step(class_names: Sequence[str]) -> int:
    return -(-len(class_names) // _MAX_TICKS)


@functools.cache
def _has_glyph(char: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    return char.isprintable() and get_font(findfont(_FONT)).get_char_index(ord(char)) > 0
