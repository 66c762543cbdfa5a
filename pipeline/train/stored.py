"""What a run records about itself, and the types that a later start checks it against."""

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, TypeVar

import msgspec

from pipeline.feed.normalize import Normalization
from pipeline.splits import TRAIN

if TYPE_CHECKING:  # it is imported only after the environment is set
    import keras

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_T = TypeVar("_T")
_CONSEQUENCES = {"model": "network", "schedule": "epochs", "streamed": "memory_budget"}


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What two starts must share to be one run. Devices and strategy may change between them.

    `data` is the manifest's SHA-256, `order` and `network` are fingerprints of the shuffle and of the layers. `epochs`
    counts if the rate of a step depends on where the run ends, `memory_budget` if it sets the windows of a stream, and
    `xla` because XLA draws other dropout masks from the same key and counter. `holdout` is what
    `Holdout.describe` gives, None for the data set's default; `recipe` the recipe's other settings.
    """

    data: str
    batch_size: _Positive
    steps_per_call: _Positive
    seed: Count
    order: str
    network: str
    learning_rate: float
    schedule: str
    precision: str
    normalization: Normalization
    streamed: bool
    xla: bool = False
    epochs: _Positive | None = None
    memory_budget: _Positive | None = None
    holdout: str | None = None
    weights_from: str | None = None
    recipe: dict[str, str | float | None] = {}

    def differences(self, other: "Identity") -> dict[str, str]:
        """Setting -> "this value -> that value", if they differ; without hashes and what follows from others."""
        plain = [name for name in self.__struct_fields__ if name != "recipe"]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in plain}
        pairs.update(
            {name: (self.recipe.get(name), other.recipe.get(name)) for name in {**self.recipe, **other.recipe}}
        )
        differ = {name: f"{_text(ours)} -> {_text(theirs)}" for name, (ours, theirs) in pairs.items() if ours != theirs}
        for cause, consequence in _CONSEQUENCES.items():
            if cause in differ:
                differ.pop(consequence, None)
        differ |= {name: "another" for name in ("data", "order") if name in differ}
        if "streamed" in differ:
            differ["feed"] = differ.pop("streamed").replace("False", "in memory").replace("True", "stream")
        if "network" in differ:
            sizes = [text.partition(" (")[0] for text in (self.network, other.network)]
            differ["network"] = "other settings of its layers" if sizes[0] == sizes[1] else " -> ".join(sizes)
        return differ


class Numerics(msgspec.Struct, frozen=True):
    """What decides the last bits of a result besides its identity: library versions, oneDNN, processor instructions."""

    tensorflow: str
    keras: str
    onednn: str
    instructions: str

    def change_from(self, earlier: "Numerics") -> str | None:
        """One line if the run was computed with something else before, or None."""
        pairs = [(name, getattr(earlier, name), getattr(self, name)) for name in self.__struct_fields__]
        changes = [f"{name} {before} -> {now}" for name, before, now in pairs if before != now]
        return f"computed with {', '.join(changes)}; results may differ in the last bits from here" if changes else None


class Stamp(msgspec.Struct, frozen=True):
    """What every checkpoint of a run carries."""

    identity: Identity
    numerics: Numerics


class StoredFeed(msgspec.Struct, frozen=True):
    """Where the first start of a run held its data, and within how many bytes of memory."""

    feed: Literal["host", "device", "stream"]
    budget: _Positive


class StoredData(msgspec.Struct, frozen=True):
    """The data set of a run, as messages name it."""

    name: str = ""
    num_examples: dict[str, int] = {}

    def __str__(self) -> str:
        rows = self.num_examples.get(TRAIN)
        return self.name if rows is None else f"{self.name} ({rows:,} rows of {TRAIN})"


def _text(value: Any) -> str:
    return "not given" if value is None else str(value)


class StoredRun(msgspec.Struct, frozen=True):
    """What a later start uses of config.json; `start` names the start that wrote it."""

    identity: Identity
    feed: StoredFeed
    start: str
    data: StoredData = StoredData()

    def differences(self, identity: Identity, data: StoredData) -> dict[str, str]:
        """What keeps a start with this identity, on this data, from being this run: name -> "its value -> given"."""
        differ = self.identity.differences(identity)
        if "data" in differ:
            same = str(data) == str(self.data)
            differ["data"] = f"{data}, converted again with other content" if same else f"{self.data} -> {data}"
        if "network" in differ:
            differ["network"] = f"{identity.recipe.get('model', '')}, whose code changed: {differ['network']}"
        return differ


class _Epoch(TypedDict):
    epoch: Count
    step: Count
    loss: float
    accuracy: float
    images_per_second: float
    seconds: float
    learning_rate: float


class EpochRow(_Epoch, total=False):
    """One epoch of a history; the validation figures are absent if there is no validation split."""

    val_loss: float
    val_accuracy: float
    gpu_utilisation: float


def parse_json(text: bytes, kind: type[_T]) -> _T:
    """Decode and validate JSON as `kind`.

    Raises:
        ValueError: it is not valid JSON, or not of that type; the message gives the place.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error


def network_fingerprint(model: "keras.Model") -> str:
    """The parameter count, and a hash of the layers in their order: kinds, settings, shapes.

    It is equal under every precision and in any process. It ignores names of layers, which Keras numbers by what was
    built before, and settings that are off, which newer versions of Keras add.
    """
    layers = [
        [type(layer).__name__, _plain_settings(layer), [list(weight.shape) for weight in layer.weights]]
        for layer in model.layers
    ]
    digest = hashlib.sha256(json.dumps(layers, sort_keys=True).encode()).hexdigest()
    return f"{model.count_params():,} parameters ({digest[:12]})"


def _plain_settings(layer: Any) -> dict[str, object]:
    plain = (bool, int, float, str, list, tuple)
    config = {name: value for name, value in layer.get_config().items() if name not in ("name", "dtype")}
    return {name: value for name, value in config.items() if isinstance(value, plain) and value is not False}
