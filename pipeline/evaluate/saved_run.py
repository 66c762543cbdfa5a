"""What a run directory says: the data that its model was trained on, how images are normalised, and the model."""

import dataclasses
import json
import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import InputError
from pipeline.evaluate.export import KERAS_NAME
from pipeline.feed.normalize import Normalization

if TYPE_CHECKING:
    import keras

CONFIG_NAME = "config.json"
# What Keras raises for files that are cut, changed, or no model at all.
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, AttributeError, ImportError, NotImplementedError),
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
)
_MAX_NAMES = 12


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """The part of RUN/config.json that using its model needs."""

    directory: pathlib.Path
    data_name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    normalization: Normalization

    @property
    def shape_text(self) -> str:
        """The shape of an image as messages give it, such as 28x28x1."""
        return _by(self.image_shape)

    def check_fits(self, where: str, image_shape: Sequence[int], class_names: Sequence[str]) -> None:
        """InputError unless data of `where` have the images and classes that this run's model was trained on."""
        run = f"{self.directory} was trained on {self.data_name}"
        if tuple(image_shape) != self.image_shape:
            raise InputError(
                f"{where} has images of {_by(image_shape)}, but {run} with images of {self.shape_text}; "
                "give data of that shape"
            )
        if tuple(class_names) != self.class_names:
            raise InputError(
                f"{where} has the classes {_some(class_names)}, but {run} with {_some(self.class_names)}; "
                "give data of the same classes"
            )

    def load_model(self) -> "keras.Model":
        """The model of the run; code inside the file is never executed.

        Raises:
            InputError: the file cannot be read, or its model has other inputs or outputs than the run's data.
        """
        import keras

        path = self.directory / KERAS_NAME
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except _UNREADABLE as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{path}: Keras cannot read this model ({reason}); train again") from error
        expected = (None, *self.image_shape), (None, len(self.class_names))
        if (model.input_shape, model.output_shape) != expected:
            raise InputError(
                f"{path}: a model of {model.input_shape} to {model.output_shape}, but {CONFIG_NAME} beside it says "
                f"{expected[0]} to {expected[1]}; the files are of different runs"
            )
        return model


def read_run(directory: str | pathlib.Path) -> SavedRun:
    """Read DIRECTORY/config.json, having seen that a model is there; the model itself is loaded later.

    Raises:
        InputError: there is no such directory, no model in it, or a config.json that is not of the form of ours.
    """
    directory = pathlib.Path(directory)
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
        raw = json.loads(path.read_text(encoding="utf-8"))
        height, width, channels = map(int, raw["data"]["image_shape"])
        return SavedRun(
            directory=directory,
            data_name=str(raw["data"]["name"]),
            image_shape=(height, width, channels),
            class_names=tuple(map(str, raw["data"]["class_names"])),
            normalization=Normalization.from_dict(raw["normalization"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a run's configuration ({type(error).__name__}: {error}); train again") from error


def _by(image_shape: Sequence[int]) -> str:
    return "x".join(map(str, image_shape))


def _some(class_names: Sequence[str]) -> str:
    names = ", ".join(class_names[:_MAX_NAMES])
    return f"{names}, ... ({len(class_names)} in all)" if len(class_names) > _MAX_NAMES else names
