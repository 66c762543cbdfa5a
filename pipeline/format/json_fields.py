"""Checks of values that were read from JSON, and so may be anything; each ValueError says where and repeats little."""

import dataclasses
import re
from typing import Any

from pipeline.errors import shorten

_MAX_COUNT = 2**63 - 1
_MAX_TEXT = 255  # what file systems allow for a name


def check_keys(raw: Any, where: str, form: type | None = None, *more: str) -> None:
    """`raw` is an object; given a dataclass `form`, with its fields and those in `more`, neither less nor others."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: {shorten(raw)} is not an object")
    wrong = sorted(raw.keys() ^ {*(field.name for field in dataclasses.fields(form)), *more}) if form else []
    if wrong:
        raise ValueError(f"{where}: {'unexpected' if wrong[0] in raw else 'no'} field {shorten(wrong[0])}")


def as_list(raw: Any, where: str) -> list:
    """`raw`, which is a list."""
    if not isinstance(raw, list):
        raise ValueError(f"{where}: {shorten(raw)} is not a list")
    return raw


def as_count(value: Any, where: str) -> int:
    """`value`, which is an integer of 0 .. 2**63 - 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{where}: {shorten(value)} is not a count")
    return value


def as_pixels(raw: Any, where: str, channels: int) -> tuple[float, ...]:
    """One number of 0 .. 255 for each channel."""
    values = as_list(raw, where)
    if len(values) != channels:
        raise ValueError(f"{where} needs one value for each of {channels} channels")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 255:
            raise ValueError(f"{where}: {shorten(value)} is not from 0 to 255")
    return tuple(map(float, values))


def as_text(value: Any, where: str, form: re.Pattern | None = None) -> str:
    """`value`, which is a short printable text and, if given, all of `form`."""
    if not is_short_text(value) or (form and not form.fullmatch(value)):
        raise ValueError(f"{where} {shorten(value)} is not one of ours")
    return value


def is_short_text(value: Any) -> bool:
    """Whether a name can be shown and stored as it is."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()
