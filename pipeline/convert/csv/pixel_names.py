"""What the names of pixel columns say about their order: row by row, or the channels of an image one after another."""

import collections
import itertools
import re
from collections.abc import Sequence

from pipeline.errors import InputError, list_few, shorten

_NUMBER = re.compile("[0-9]+")
_NUMBER_NAME = re.compile(r"[0-9]+(\.[0-9]+)*")
_CHANNELS = ("red", "green", "blue")
_COLOR = "(r|red|g|green|b|blue)"
_CHANNEL_NAME = re.compile(rf"{_COLOR}[_ .-]?[0-9]+|[a-z]*[_ .-]?[0-9]+[_ .-]?{_COLOR}", re.I)


def channel_order(names: Sequence[str]) -> str | None:
    """CHW if the names are all of red, then green, then blue (r_0, r_1, ..), HWC if they take turns; else None."""
    letters = []
    for name in names:
        match = _CHANNEL_NAME.fullmatch(name)
        if match is None:
            return None
        letters.append((match[1] or match[2]).lower()[0])
    count = len(letters) // 3
    if letters == [channel[0] for channel in _CHANNELS for _ in range(count)]:
        return "CHW"
    return "HWC" if letters == [channel[0] for _ in range(count) for channel in _CHANNELS] else None


def check_pixel_names(where: str, names: Sequence[str]) -> None:
    """Names like pixel0.. or 1x1..28x28 must count up without gaps, the last number fastest: row-major order.

    Raises:
        InputError: a name is out of order, or not one of a pixel.
    """
    # pandas makes such names of a first row that it took for a header; they say nothing about the order.
    if all(map(_NUMBER_NAME.fullmatch, names)) and any("." in name for name in names):
        return
    # Without its own #, which would look like the place of a number.
    patterns = [_NUMBER.sub("#", name.replace("#", "")) for name in names]
    pattern, times = collections.Counter(patterns).most_common(1)[0]
    # Names that mostly share no pattern say nothing about the order.
    if "#" not in pattern or times < 2 or times * 2 <= len(names):
        return
    extra = [shorten(name) for name, own_pattern in zip(names, patterns, strict=True) if own_pattern != pattern]
    if extra:
        example = shorten(names[patterns.index(pattern)])
        what = f"column {extra[0]}: not a pixel" if len(extra) == 1 else f"columns {list_few(extra, 4)}: not pixels"
        drop = " ".join(f"--drop-column {name}" for name in extra[:4])
        raise InputError(
            f"{where}: extra {what} like {example}; ignore with {drop}, or select with --label-column, "
            "--one-hot-labels, --id-column or --split-column"
        )
    numbers = [tuple(map(int, _NUMBER.findall(name))) for name in names]
    # An axis is at most as long as the list of names, however large a number one of them has.
    ranges = [range(min(axis), min(max(axis), min(axis) + len(names)) + 1) for axis in zip(*numbers, strict=True)]
    for name, place, expected in zip(names, numbers, itertools.product(*ranges), strict=False):
        if place != expected:
            start, *parts = pattern.split("#")
            wanted = start + "".join(f"{number}{part}" for number, part in zip(expected, parts, strict=True))
            remedy = "; if this line is data, use --no-header" if pattern == "#" else ""
            raise InputError(
                f"{where}: pixel columns out of order: {shorten(name)} in the place of {shorten(wanted)}; "
                f"put them in row-major order without gaps{remedy}"
            )
