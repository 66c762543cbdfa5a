"""The functions of `import pipeline`: load, train, convert and predict. docs/api.md shows each."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.errors import InputError
from pipeline.mirror import local_copy
from pipeline.remote import as_path

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from pipeline.format.manifest import Manifest

_Path = str | pathlib.Path
_CTRL_C = 130  # the exit code of train.py: 128 + SIGINT
_PREDICTED_AT_ONCE = 1024  # images


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a training left in `run_dir`: the accuracy in 0..1 of each labelled split, and the rows of history.csv."""

    run_dir: pathlib.Path
    accuracy: dict[str, float]
    history: list[dict[str, float]]

    def load_model(self) -> "keras.Model":
        """The exported model, RUN_DIR/model.keras: uint8 images [n, H, W, C] to probabilities."""
        import keras

        return keras.saving.load_model(local_copy(self.run_dir, ["checkpoints"]) / "model.keras", compile=False)


def load(data: _Path, split: str = "train", batch_size: int = 256, **options: Any) -> "tf.data.Dataset":
    """A split as a tf.data.Dataset of batches (image, label); `pipeline.api.data.load` has the options."""
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    from pipeline.api import data as datasets

    return datasets.load(data, split, batch_size, **options)


def train(
    network: "str | Callable[..., keras.Model] | None",
    data: _Path,
    recipe: str = "best",
    run_dir: _Path | None = None,
    callbacks: "Sequence[keras.callbacks.Callback]" = (),
    **settings: Any,
) -> TrainResult:
    """Train a network as train.py does, with resume, audit, export and figures; called again, it resumes.

    Args:
        network: a function (image_shape, num_classes) -> keras.Model as models/__init__.py describes, a name as of
            `--model`, or None for that of the recipe.
        data: the directory of a data set.
        recipe: a name or a file, as of `--recipe`.
        run_dir: where results go; by default runs/NAME_OF_THE_DATA.
        callbacks: Keras callbacks.
        settings: of the recipe and the training, named as the options of train.py: epochs, batch_size, audit, ...

    Raises:
        InputError: a setting, the data or the network is invalid; the message has one line.
        KeyboardInterrupt: Ctrl-C was pressed; a checkpoint is written.
    """
    from models import register
    from pipeline.api import run
    from pipeline.train.config import TrainConfig
    from pipeline.train.recipe import read_recipe
    from pipeline.train.settings_file import typed_settings

    given = typed_settings({**settings, "data": data, "run_dir": run_dir}, TrainConfig, "a training")
    if settings.get("folds") or settings.get("seeds"):
        raise InputError("folds and seeds train several runs; use train.py --folds or --seeds")
    given.setdefault("run_dir", pathlib.Path("runs") / given["data"].resolve().name)
    if network is not None:
        if not (isinstance(network, str) or hasattr(network, "__qualname__")):
            raise InputError(f"{network!r} is not a function that makes a network; give one, a name, or None")
        given["model"] = network if isinstance(network, str) else register(network)
    config = TrainConfig(**{**read_recipe(str(recipe)), **given})
    if code := run.train(config, callbacks):
        raise KeyboardInterrupt if code == _CTRL_C else SystemExit(code)
    return _result(config.run_dir)


def convert(splits: Mapping[str, _Path | Sequence[_Path]], out: _Path, **options: Any) -> "Manifest":
    """Convert files to a data set: `pipeline.convert({"train": "train.csv"}, "data/mine", val_fraction=0.1)`.

    Args:
        splits: file, or several files, by split.
        out: the directory to create.
        options: those of tools/csv_to_tfrecord.py, with _ for -: val_fraction, workers, pixel_range, id_column, ...

    Raises:
        InputError: an option or a file is invalid; nothing is written.
    """
    from pipeline.convert.config import ConvertConfig
    from pipeline.convert.converter import convert as write
    from pipeline.convert.read_options import ReadOptions
    from pipeline.train.settings_file import typed_settings

    if not isinstance(splits, Mapping):
        raise InputError(f'splits is {splits!r}; give files by split, as in {{"train": "train.csv"}}')
    several = {name: files if isinstance(files, list | tuple) else [files] for name, files in splits.items()}
    pairs = tuple((name, file) for name, files in several.items() for file in files)
    # The few options that are pairs may be given as a mapping, as the splits are.
    given = {name: tuple(value.items()) if isinstance(value, Mapping) else value for name, value in options.items()}
    names = [field.name for field in dataclasses.fields(ReadOptions)]
    of = "a conversion"
    read = typed_settings({name: given.pop(name) for name in names if name in given}, ReadOptions, of)
    rest = typed_settings({**given, "splits": pairs, "out": out}, ConvertConfig, of, names)
    return write(ConvertConfig(**rest, read=ReadOptions(**read)))


def predict(run_dir: _Path, images: "np.ndarray") -> "np.ndarray":
    """Probabilities float32 [n, num_classes] of images uint8 [n, H, W, C], by the exported model of a run.

    Images may also be [n, H, W] or [n, H*W*C].

    Raises:
        InputError: there is no model, or the images are not those that it takes.
    """
    from pipeline.train.environment import import_tensorflow

    tf, path = import_tensorflow(), local_copy(as_path(run_dir), ["checkpoints"]) / "saved_model"
    import numpy as np

    if not path.is_dir():
        raise InputError(f"{run_dir}: no saved_model here; name the directory of a run that has ended")
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (signature,) = (spec for spec in serve.structured_input_signature[1].values())
    shape, values = tuple(signature.shape[1:]), np.asarray(images)
    known = [shape, (math.prod(shape),), *([shape[:2]] if shape[2] == 1 else [])]
    if values.dtype != np.uint8 or not len(values) or values.shape[1:] not in known:
        raise InputError(
            f"images are {values.dtype} {list(values.shape)}; give uint8 [n, {', '.join(map(str, shape))}]"
        )
    values = values.reshape(-1, *shape)
    starts = range(0, len(values), _PREDICTED_AT_ONCE)
    batches = [tf.constant(values[start : start + _PREDICTED_AT_ONCE]) for start in starts]
    return np.concatenate([serve(images=batch)["probabilities"].numpy() for batch in batches])


def _result(run_dir: pathlib.Path) -> TrainResult:
    import csv

    from pipeline.evaluate.metrics import FILE_NAME
    from pipeline.train.run_dir import HISTORY_NAME

    files = local_copy(run_dir)
    splits = msgspec.json.decode((files / FILE_NAME).read_bytes())["splits"]
    with (files / HISTORY_NAME).open(newline="") as file:
        history = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return TrainResult(run_dir, {name: split["accuracy"] for name, split in splits.items()}, history)
