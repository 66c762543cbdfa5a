"""Settings from a file, TOML or JSON such as a run's config.json, or from a program: their names and types."""

import argparse
import dataclasses
import difflib
import functools
import operator
import pathlib
import sys
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec

from pipeline.errors import InputError
from pipeline.remote import as_path, is_remote

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MIGHT_BE_MEANT = 0.6  # difflib's own measure of likeness, from 0 to 1


def read_settings(path: pathlib.Path, cls: type, of: str, others: Collection[str] = ()) -> dict[str, Any]:
    """Values of some fields of the dataclass `cls`, by name, of the types that its annotations give.

    A file that ends in .toml is TOML, any other JSON. Names are those of the options: batch-size or batch_size. Of a
    run's config.json its settings are read. Values that are null count as not given.

    Args:
        of: what the settings belong to, for messages: "a recipe".
        others: names besides the fields, for texts.

    Raises:
        InputError: the file is not valid, has an unknown name, or a value of another type.
        OSError: it cannot be read.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    return typed_settings(_content(path, fields, of), cls, of, others, f"{path}: ")


def typed_settings(
    given: Mapping[str, Any], cls: type, of: str, others: Collection[str] = (), where: str = ""
) -> dict[str, Any]:
    """The given values of fields of `cls` with the types of its annotations; `where` is the start of messages.

    Raises:
        InputError: a name is unknown, or a value of another type.
    """
    hints = typing.get_type_hints(cls).items()
    kinds = {name: _with_any_path(kind) for name, kind in hints if not name.startswith("_")}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    settings = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in fields and name not in others:
            near = difflib.get_close_matches(name, [*fields, *others], 1, _MIGHT_BE_MEANT)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{where}{key} is not a setting of {of}{meant}")
        if value is None:
            continue
        if hasattr(value, "item"):  # a number of NumPy, such as a sweep's
            value = value.item()
        try:
            kind, option = (kinds[name], fields[name].metadata) if name in fields else (str, {})
            # With nargs the type is that of one of several values.
            read_text = option.get("type") if isinstance(value, str) and "nargs" not in option else None
            settings[name] = read_text(value) if read_text else msgspec.convert(value, kind, dec_hook=_from_text)
        except (argparse.ArgumentTypeError, msgspec.ValidationError) as error:
            raise InputError(f"{where}{key}: {error}") from error
    return settings


def _content(path: pathlib.Path, fields: Collection[str], of: str) -> dict[str, Any]:
    try:
        if path.suffix == ".toml":
            return tomllib.loads(path.read_text(encoding="utf-8"))
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        what = f"{path}: not the settings of {of} ({error})"
        raise InputError(f"{what}; a file.toml, or JSON such as a run's config.json, has them") from error
    if isinstance(settings := content.get("settings"), dict):  # a run's config.json, whose settings are of all kinds
        return {key: value for key, value in settings.items() if key in fields}
    return content


class _AnyPathKind(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, pathlib.Path) or (not isinstance(value, str) and is_remote(cast(Any, value)))


class _AnyPath(metaclass=_AnyPathKind):
    """In place of pathlib.Path, of which paths in object stores are no instances, where msgspec checks types."""


def _with_any_path(kind: Any) -> Any:
    if kind is pathlib.Path:
        return _AnyPath
    origin, kinds = typing.get_origin(kind), tuple(map(_with_any_path, typing.get_args(kind)))
    if kinds == typing.get_args(kind):
        return kind
    return functools.reduce(operator.or_, kinds) if origin in (types.UnionType, typing.Union) else origin[kinds]


def _from_text(kind: Any, value: Any) -> Any:
    if isinstance(value, kind) and kind is not _AnyPath:
        return value
    if not isinstance(value, (str, kind)):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec makes it a ValidationError
    return as_path(value) if kind is _AnyPath else kind(value)
