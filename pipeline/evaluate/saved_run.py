"""A trained model as files, for Keras and for TensorFlow Serving and the like; and reading a run's model back.

Both take plain pixels, uint8 [n, H, W, C] in 0..255: normalization is part of them.
"""

import dataclasses
import importlib
import itertools
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from pipeline.errors import InputError, list_few
from pipeline.feed.normalize import Normalization
from pipeline.files import replacing, write_text
from pipeline.format.manifest import Reading
from pipeline.format.manifest_rules import is_class_name
from pipeline.mirror import CONFIG_NAME, as_given, local_copy
from pipeline.remote import as_path

if TYPE_CHECKING:
    import keras

KERAS_NAME, SAVED_MODEL_NAME = "model.keras", "saved_model"
LABELS_NAME = "labels.txt"  # what TFLite and its examples take
SERIES_NAME = "series.json"  # in the directory of a series of runs
_METADATA = "metadata.json"
_CHECKPOINTS = "checkpoints"  # which only training needs
_MAX_NAMES = 12  # class names that a message repeats, to stay one readable line
_MAX_REASON = 200  # characters; Keras repeats the whole configuration of a layer

_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


def export_model(run_dir: str | os.PathLike, model: "keras.Model", class_names: Sequence[str]) -> None:
    """Write model.keras, labels.txt (a class name per line) and saved_model in RUN_DIR, each complete or as before.

    `metadata.json` within model.keras has the `class_names`. The SavedModel's signature `serving_default` takes
    `images` uint8 [n, H, W, C] and gives `probabilities` float32 [n, num_classes], `class_names` string [num_classes],
    and `label` string [n], the name of the most probable class.

    Args:
        run_dir: an existing directory.
        model: of `takes_pixels`, built from plain layers, with float32 [n, num_classes] probabilities as its output.
        class_names: one per output.
    """
    run_dir = pathlib.Path(run_dir)
    # Keras chooses its format by the suffix, which the temporary name keeps.
    with replacing(run_dir / KERAS_NAME) as temporary:
        model.save(temporary)
        _add_metadata(temporary, class_names=list(class_names))
    write_text(run_dir / LABELS_NAME, "".join(f"{name}\n" for name in class_names))
    with replacing(run_dir / SAVED_MODEL_NAME) as temporary:
        _write_saved_model(temporary, model, class_names)


def takes_pixels(model: "keras.Model", normalization: Normalization) -> "keras.Model":
    """`model` behind its normalization, as a layer of Keras: uint8 [n, H, W, C] to the same outputs."""
    import keras

    inputs = keras.Input(model.input_shape[1:], dtype="uint8", name="images")
    scale, offset = normalization.scale_and_offset()
    scaled = keras.layers.Rescaling(scale, offset, dtype="float32", name="normalization")(inputs)
    return keras.Model(inputs, model(scaled), name=f"{model.name}_of_pixels")


def _add_metadata(path: pathlib.Path, **values: Any) -> None:
    """Add values to metadata.json within a .keras file; Keras ignores those that are not its own."""
    with zipfile.ZipFile(path) as archive:
        files = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in files:
            text = json.dumps({**json.loads(data), **values}) if entry.filename == _METADATA else data
            archive.writestr(entry, text)


def serving_function(model: "keras.Model", class_names: Sequence[str] = ()) -> Any:
    """A tf.function of `images` uint8 [n, H, W, C] to `probabilities`, and with names to `class_names` and `label`."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")])
    def serve(images):
        outputs = {"probabilities": model(images, training=False)}
        if class_names:
            names = tf.constant(list(class_names), tf.string)
            label = tf.gather(names, tf.argmax(outputs["probabilities"], axis=-1))
            outputs |= {"class_names": names, "label": label}
        return outputs

    return serve


def _write_saved_model(directory: pathlib.Path, model: "keras.Model", class_names: Sequence[str]) -> None:
    import tensorflow as tf

    serve = serving_function(model, class_names)
    module: Any = tf.Module()
    # The variables alone: with the Keras model itself the file would hold Keras's own objects and functions too.
    module.variables_of_model = [variable.value for variable in model.variables]
    module.serve = serve
    tf.saved_model.save(module, os.fspath(directory), signatures=serve)


class _Data(msgspec.Struct):
    name: str
    image_shape: tuple[_Size, _Size, _Size]
    class_names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    dark_background: bool | None = None
    reading: Reading = Reading()


class _Settings(msgspec.Struct):
    model: str = ""


class _Config(msgspec.Struct):
    """The fields of config.json that are read; msgspec ignores the others, and refuses NaN and Infinity anywhere."""

    data: _Data
    settings: _Settings = msgspec.field(default_factory=_Settings)

    def __post_init__(self) -> None:
        names = self.data.class_names
        if len(set(names)) < len(names) or not all(map(is_class_name, names)):
            raise ValueError("class names must be different, and printable")


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """The part of RUN/config.json that using its model needs."""

    directory: pathlib.Path
    data_name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    dark_background: bool | None = None  # of the training images, if it is known
    network: str = ""  # as --model names it
    reading: Reading = Reading()

    def check_fits(self, where: str, image_shape: Sequence[int], class_names: Sequence[str]) -> None:
        """InputError unless the data of `where` have the images and classes that this run's model was trained on."""
        run = f"{self.directory} was trained on {self.data_name}"
        if tuple(image_shape) != self.image_shape:
            given, needed = shape_text(image_shape), shape_text(self.image_shape)
            raise InputError(
                f"{where} has images of {given}, but {run} with images of {needed}; use data of that shape"
            )
        if tuple(class_names) != self.class_names:
            raise InputError(
                f"{where} has the classes {list_few(class_names, _MAX_NAMES)}, "
                f"but {run} with {list_few(self.class_names, _MAX_NAMES)}; "
                "use data of the same classes"
            )

    def load_model(self) -> "keras.Model":
        """The model of the run, of `takes_pixels`; code inside the file is never executed.

        The module of a user's own network is imported, as for training: its layers are registered there.

        Raises:
            InputError: the file cannot be read, or its model has other inputs or outputs than the run's data.
        """
        import keras
        import tensorflow as tf

        path = self.directory / KERAS_NAME
        expected = (None, *self.image_shape), (None, len(self.class_names))
        module, is_own, _ = self.network.partition(":")
        try:
            if is_own:
                importlib.import_module(module)
        except Exception as error:  # a user's module raises anything
            raise InputError(
                f"{path}: its network {self.network} cannot be imported ({error}); put its folder on PYTHONPATH"
            ) from error
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)  # safe: refuses pickled code
            shapes = model.input_shape, model.output_shape
            if shapes == expected:  # some models load, but cannot compute
                pixels = tf.TensorSpec(expected[0], model.inputs[0].dtype)
                tf.function(model, autograph=False).get_concrete_function(pixels, training=False)
        except Exception as error:  # Keras raises whatever the layers raise that the file names
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:_MAX_REASON]
            raise InputError(f"{path}: Keras cannot read this model ({reason}); train again") from error
        if shapes != expected:
            raise InputError(
                f"{path}: a model of {shapes[0]} to {shapes[1]}, but the {CONFIG_NAME} beside it is of a run of "
                f"{expected[0]} to {expected[1]}; put the files of one run together, or train again"
            )
        if model.inputs[0].dtype != "uint8":
            raise InputError(
                f"{path}: takes {model.inputs[0].dtype} instead of uint8 pixels, as older runs do; train again"
            )
        return model


def read_run(directory: str | pathlib.Path) -> SavedRun:
    """Read DIRECTORY/config.json and check that there is a model, which is loaded later.

    Raises:
        InputError: there is no such directory, no model in it, or config.json is invalid.
    """
    directory = local_copy(as_path(directory), [_CHECKPOINTS])
    if not directory.is_dir():
        raise InputError(f"{directory}: no such run directory")
    if not (directory / KERAS_NAME).is_file():
        raise InputError(
            f"{directory}: no {KERAS_NAME} here; is this a run directory? if so, run its train.py command to the end"
        )
    path = directory / CONFIG_NAME
    if not path.is_file():
        raise InputError(f"{directory}: no {CONFIG_NAME} here; is this a run directory?")
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path}: not the configuration of a run ({error}); train again") from error
    data, network = config.data, config.settings.model
    shape, names, dark = data.image_shape, data.class_names, data.dark_background
    return SavedRun(directory, data.name, shape, names, dark, network, data.reading)


def read_runs(directories: Sequence[str | pathlib.Path]) -> list[SavedRun]:
    """Read runs whose probabilities can be averaged; the directory of a series stands for its runs.

    Raises:
        InputError: as `read_run`; a series is not complete; a run is given twice, or its images, classes or their
            order are not the first one's.
    """
    runs: list[SavedRun] = []
    copies = (local_copy(as_path(directory), [_CHECKPOINTS]) for directory in directories)
    for directory in itertools.chain.from_iterable(map(_runs_in, copies)):
        run = read_run(directory)
        if any(_is_same(run.directory, other.directory) for other in runs):
            raise InputError(f"{directory}: given twice, which would count it twice; name different runs")
        runs.append(run)
        first = runs[0]
        if run.image_shape != first.image_shape:
            raise InputError(
                f"{directory}: trained on images of {shape_text(run.image_shape)}, but {first.directory} on "
                f"{shape_text(first.image_shape)}; only runs of one shape can be averaged"
            )
        if run.class_names != first.class_names:
            raise InputError(
                f"{directory}: has the classes {list_few(run.class_names, _MAX_NAMES)}, but {first.directory} has "
                f"{list_few(first.class_names, _MAX_NAMES)}; only runs with the same classes in the same order can be "
                "averaged"
            )
    return runs


def _is_same(run: pathlib.Path, other: pathlib.Path) -> bool:
    return run.samefile(other) or as_given(run) == as_given(other)  # two copies of one stored run


def _runs_in(directory: pathlib.Path) -> list[pathlib.Path]:
    """The directory itself, or the runs of a series of `--seeds` or `--folds`."""
    runs = [path for path in directory.glob("*") if re.fullmatch(r"(seed|fold)-[0-9]+", path.name)]
    if (directory / CONFIG_NAME).exists() or not runs:
        return [directory]
    if not (directory / SERIES_NAME).exists():
        raise InputError(f"{directory}: a series without {SERIES_NAME}; run its train.py command to the end")
    return sorted(runs, key=lambda path: int(path.name.rpartition("-")[2]))


def shape_text(image_shape: Sequence[int]) -> str:
    """The shape of an image as messages show it, such as 28x28x1."""
    return "x".join(map(str, image_shape))
