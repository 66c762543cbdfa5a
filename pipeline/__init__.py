"""A tf.data training pipeline for image data kept as CSVs; docs/api.md has the functions that programs call.

`pipeline.load`, `pipeline.train`, `pipeline.convert` and `pipeline.predict` are imported when they are first used.
"""

import importlib
import sys
import types
from typing import Any

__version__ = "0.2.0"

_FUNCTIONS, _ROOMS = ("load", "predict"), ("train", "convert")


class _CallableRoom(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = getattr(importlib.import_module("pipeline.api.functions"), self.__name__.rpartition(".")[2])
        return function(*args, **kwargs)


def make_callable(room: str) -> None:
    """Let a room be called as the function of its name: `pipeline.train` is a folder and a function."""
    sys.modules[room].__class__ = _CallableRoom


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module("pipeline.api.functions"), name)
    if name in _ROOMS:
        return importlib.import_module(f"pipeline.{name}")
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FUNCTIONS, *_ROOMS]
