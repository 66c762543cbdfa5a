"""The two errors a user sees, and how messages write values."""

from collections.abc import Sequence

_MAX_SHOWN = 40  # characters of a wrong value that a message repeats


class InputError(ValueError):
    """A mistake in what the user gave. Its text is one line: file, place, value, and what to do."""


class TryAgainError(RuntimeError):
    """Something outside failed, not the input; rerunning the command resumes. Its text is one line."""


def shorten(value: object) -> str:
    """A value as messages repeat it: as Python writes it, on one line, truncated if long."""
    if isinstance(value, str):  # cut before repr, which would escape megabytes of hostile text
        return repr(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "...")
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def split_settings(text: str) -> tuple[str, dict[str, str]]:
    """Name and settings of a text such as "digits,rotation=15"; a part without "=" is a setting with the value "".

    Raises:
        InputError: a setting is given twice.
    """
    name, *parts = map(str.strip, text.split(","))
    settings: dict[str, str] = {}
    for part in parts:
        key, _, value = map(str.strip, part.partition("="))
        if key in settings:
            raise InputError(f"{key} is given twice; give it once")
        settings[key] = value
    return name, settings


def list_few(values: Sequence[object], limit: int, count: int | None = None) -> str:
    """The first `limit` of `count` values (default: those given), for one line of a message, and their number."""
    count = len(values) if count is None else count
    text = ", ".join(map(str, values[:limit]))
    return f"{text}, ... ({count:,} in all)" if count > limit else text


def pluralize(number: int, noun: str) -> str:
    """A number of things as messages and rows name them: "1 replica", "2 replicas"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def size_text(num_bytes: int) -> str:
    """A size in binary units: "47.0 MiB", "1 byte"."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return pluralize(num_bytes, "byte")
