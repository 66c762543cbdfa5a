"""What all figures share: size, fonts, colours, names that can be drawn, and a file that is complete or absent."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.files import replacing

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision tell apart (https://jfly.uni-koeln.de/color).
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"
RED = "#C1121F"  # for what is wrong; dark enough for text, and no one takes it for the blue

_DPI = 120
_FONT = "DejaVu Sans"  # comes with matplotlib, so that figures look the same everywhere
_MAX_TICKS = 60
_FONT_SIZE = 9  # points
_STYLE = {
    "font.family": _FONT,
    "font.size": _FONT_SIZE,
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
def drawing(path: str | os.PathLike, width: float, height: float, layout: str = "constrained") -> Iterator["Figure"]:
    """Give an empty figure of width x height inches; at the end it is written to `path` as PNG.

    `layout` "constrained" makes room for all text; "none" leaves the places of the axes to the caller. There is no
    pyplot, so no window system, no global list of figures and nothing to close.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI, format="png")


def shorten(name: str, length: int = 24) -> str:
    """`name` as it can be drawn: at most `length` characters, those without a glyph as their code points."""
    drawable = "".join(char if _has_glyph(char) else _escape(char) for char in name)
    return drawable if len(drawable) <= length else drawable[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def names_length(names: Sequence[str], length: int = 24) -> float:
    """Inches that the longest of the names takes, as drawn with at most `length` characters."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=_FONT, size=_FONT_SIZE)
    widths = (
        text_to_path.get_text_width_height_descent(shorten(name, length), font, ismath=False)[0] for name in names
    )
    return max(widths) / 72  # points an inch


def names_height(class_names: Sequence[str], inches_a_class: float) -> float:
    """Inches that the names need below an x axis: those that do not fit side by side are turned upright."""
    length = names_length(class_names)
    return length if length > 0.9 * inches_a_class * _tick_step(class_names) else 0.0


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


def _escape(char: str) -> str:
    return f"U+{ord(char):04X}"
