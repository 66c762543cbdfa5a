"""Networks by name, or by `package.module:function`.

A builder is a function `(image_shape, num_classes, dtype="float32", layer_types=PLAIN, **settings) -> keras.Model` from
[n, H, W, C] images in the compute dtype of the policy `dtype` to float32 probabilities [n, num_classes], with a layer
named "logits" before the softmax. Its settings are numbers with defaults. It takes dropout and batch normalization from
`layer_types` (`models/layer_types.py`), which has Keras's own layers for export. A user's function may lack
`layer_types`, and `dtype`: it is then trained in float32.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import split_settings

if TYPE_CHECKING:
    import keras

Builder = Callable[..., "keras.Model"]

# Modules rather than functions, so that listing the names does not import TensorFlow.
NETWORKS = {
    "tutorial": "models.tutorial:make_tutorial",
    "fast": "models.fast:make_fast",
    "residual": "models.residual:make_residual",
}


class Network(NamedTuple):
    """A network as `--model` names it: "residual", "residual,width=48" or "package.module:function,depth=3"."""

    name: str
    settings: dict[str, float]

    @property
    def is_own(self) -> bool:
        """Whether it is a user's function, not one of NETWORKS."""
        return ":" in self.name

    def load(self) -> Builder:
        """The builder, with these settings applied.

        Raises:
            ValueError: there is no such network, function or setting; the message is for users.
        """
        builder = _registered.get(self.name) or _import(NETWORKS.get(self.name, self.name))
        parameters = inspect.signature(builder).parameters
        known = [name for name in list(parameters)[2:] if name not in _OPTIONAL]
        if unknown := [name for name in self.settings if name not in known]:
            raise ValueError(f"it has no setting {unknown[0]}; it has {', '.join(known) or 'none'}")

        def build(*args: Any, **kwargs: Any) -> "keras.Model":
            taken = {name: value for name, value in kwargs.items() if name in parameters or name not in _OPTIONAL}
            return builder(*args, **taken, **self.settings)

        return build


_OPTIONAL = ("dtype", "layer_types")
_registered: dict[str, Builder] = {}


def register(builder: Builder) -> str:
    """Let this process find a function that cannot be imported, as those of a notebook; returns the name to use."""
    name = f"{builder.__module__}:{builder.__qualname__}"
    _registered[name] = builder
    return name


def _import(place: str) -> Builder:
    module_name, _, function_name = place.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"cannot import it ({error}); give package.module:function, with its folder on PYTHONPATH"
        ) from error


def parse_network(text: str) -> Network:
    """The network that a text such as "residual,width=48" names; ValueError, for users, if it names none."""
    name, texts = split_settings(text)
    if name not in NETWORKS and ":" not in name:
        raise ValueError(f"choose one of {', '.join(NETWORKS)}, or package.module:function")
    settings: dict[str, float] = {}
    for key, value in texts.items():
        try:
            settings[key] = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError as error:
            raise ValueError(f"{'='.join(filter(None, (key, value)))!r} is not a setting such as width=48") from error
    return Network(name, settings)
