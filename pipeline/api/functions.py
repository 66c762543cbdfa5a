"""The functions of `import pipeline`: load, train, convert and predict. docs/api.md shows each."""

import dataclasses
import difflib
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.errors import InputError

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

        return keras.saving.load_model(self.run_dir / "model.keras", compile=False)


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

    _check_names(settings, _names(TrainConfig), "a setting of a training")
    if settings.get("folds") or settings.get("seeds"):
        raise InputError("folds and seeds train several runs; use train.py --folds or --seeds")
    data = pathlib.Path(data)
    run_dir = pathlib.Path(run_dir or pathlib.Path("runs") / data.resolve().name)
    if network is not None:
        if not (isinstance(network, str) or callable(network)):
            raise InputError(f"{network!r} is not a network; give a function that makes one, a name, or None")
        settings["model"] = network if isinstance(network, str) else register(network)
    config = TrainConfig(**{**read_recipe(recipe), **settings, "data": data, "run_dir": run_dir})
    for callback in callbacks:
        _check_callback(callback, config)
    if code := run.train(config, callbacks):
        raise KeyboardInterrupt if code == _CTRL_C else SystemExit(code)
    return _result(run_dir)


def convert(splits: Mapping[str, _Path], out: _Path, **options: Any) -> "Manifest":
    """Convert files to a data set: `pipeline.convert({"train": "train.csv"}, "data/mine", val_fraction=0.1)`.

    Args:
        splits: file by split.
        out: the directory to create.
        options: those of tools/csv_to_tfrecord.py, with _ for -: val_fraction, workers, pixel_range, id_column, ...

    Raises:
        InputError: an option or a file is invalid; nothing is written.
    """
    from pipeline.convert.config import ConvertConfig
    from pipeline.convert.converter import convert as write
    from pipeline.convert.read_options import ReadOptions

    if not isinstance(splits, Mapping):
        raise InputError(f'splits is {splits!r}; give files by split, as in {{"train": "train.csv"}}')
    names = _names(ReadOptions)
    _check_names(options, [*names, *_names(ConvertConfig)], "an option of a conversion")
    read = ReadOptions(**{name: value for name, value in options.items() if name in names})
    rest = {name: value for name, value in options.items() if name not in names}
    return write(ConvertConfig(splits=tuple(splits.items()), out=out, read=read, **rest))


def predict(run_dir: _Path, images: "np.ndarray") -> "np.ndarray":
    """Probabilities float32 [n, num_classes] of images uint8 [n, H, W, C], by the exported model of a run.

    Images may also be [n, H, W] or [n, H*W*C].

    Raises:
        InputError: there is no model, or the images are not those that it takes.
    """
    from pipeline.train.environment import import_tensorflow

    tf, path = import_tensorflow(), pathlib.Path(run_dir) / "saved_model"
    import numpy as np

    if not path.is_dir():
        raise InputError(f"{run_dir}: no saved_model here; name the directory of a run that has ended")
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (signature,) = (spec for spec in serve.structured_input_signature[1].values())
    shape, values = signature.shape[1:], np.asarray(images)
    if values.dtype != np.uint8 or not len(values) or values[0].size != shape.num_elements():
        raise InputError(
            f"images are {values.dtype} {list(values.shape)}; give uint8 [n, {', '.join(map(str, shape))}]"
        )
    values = values.reshape(-1, *shape)
    starts = range(0, len(values), _PREDICTED_AT_ONCE)
    batches = [tf.constant(values[start : start + _PREDICTED_AT_ONCE]) for start in starts]
    return np.concatenate([serve(images=batch)["probabilities"].numpy() for batch in batches])


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _check_names(given: Collection[str], names: Sequence[str], what: str) -> None:
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise InputError(f"{name} is not {what}{f'; did you mean {near[0]}?' if near else ''}")


def _check_callback(callback: "keras.callbacks.Callback", config: Any) -> None:
    from pipeline.train.environment import import_tensorflow

    import_tensorflow()
    import keras

    from pipeline.train.callbacks import check_callback

    if not isinstance(callback, keras.callbacks.Callback):
        raise InputError(f"callbacks has {callback!r}; give objects of keras.callbacks.Callback")
    check_callback(callback, config)


def _result(run_dir: pathlib.Path) -> TrainResult:
    import csv

    from pipeline.evaluate.metrics import FILE_NAME
    from pipeline.train.run_dir import HISTORY_NAME

    splits = msgspec.json.decode((run_dir / FILE_NAME).read_bytes())["splits"]
    with (run_dir / HISTORY_NAME).open(newline="") as file:
        history = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return TrainResult(run_dir, {name: split["accuracy"] for name, split in splits.items()}, history)
