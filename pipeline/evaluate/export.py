"""A run's model in other formats, each compared with Keras before it is kept."""

import importlib.util
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.saved_run import SAVED_MODEL_NAME, SavedRun, serving_function
from pipeline.files import replacing

if TYPE_CHECKING:
    import keras

_OPSET = 17  # of ONNX; onnxruntime reads it since 1.12, of 2022
_TOLERANCE = 1e-4  # of probabilities, whose sums other libraries round in another order
_PACKAGES = {"tflite": ("ai_edge_litert",), "onnx": ("tf2onnx", "onnxruntime")}

Probabilities = Callable[[np.ndarray], np.ndarray]  # images uint8 [n, H, W, C] to float32 [n, num_classes]


def check_packages(kind: str) -> None:
    """InputError if a format needs packages that are not installed."""
    for name in _PACKAGES.get(kind, ()):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"--format {kind} needs {name.replace('_', '-')}: python -m pip install -e '.[export]'")


def export(run: SavedRun, kind: str, out: pathlib.Path, images: np.ndarray) -> str:
    """Write `out`, and return what was compared, in one line.

    Args:
        kind: "tflite", "onnx", or "serving", which adds the next version, a directory with a number, to `out`.
        images: uint8 [n, H, W, C], whose probabilities must be those of Keras.

    Raises:
        InputError: the model cannot be converted or gives other probabilities; then nothing is written.
    """
    model = run.load_model()
    expected = np.asarray(model.predict(images, verbose=0))
    version = ""
    if kind == "serving":
        names = [path.name for path in out.iterdir()] if out.is_dir() else []
        version = str(1 + max((int(name) for name in names if re.fullmatch("[0-9]+", name)), default=0))
        if out.is_dir():
            out, version = out / version, ""
        out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        try:
            predict = _WRITERS[kind](run, model, temporary / version)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{run.directory}: its model cannot be converted to {kind} ({reason})") from error
        text = _compare(predict(images), expected)
    return f"{out / version}: {text}"


def _compare(found: np.ndarray, expected: np.ndarray) -> str:
    difference = float(np.abs(found - expected).max())
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    if not difference <= _TOLERANCE:  # a NaN is not within it either
        raise InputError(f"the exported model differs from Keras by {difference:.1g} in a probability; not written")
    return f"{same} of {len(found)} images in the class that Keras gives, probabilities within {difference:.1g} of its"


def _write_tflite(_: SavedRun, model: "keras.Model", path: pathlib.Path) -> Probabilities:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # As constants: variables would be empty when an interpreter starts.
    constant = convert_variables_to_constants_v2(serving_function(model).get_concrete_function())
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([constant]).convert())
    interpreter = Interpreter(str(path))
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return predict


def _write_onnx(_: SavedRun, model: "keras.Model", path: pathlib.Path) -> Probabilities:
    import onnxruntime
    import tf2onnx

    function = serving_function(model)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=_OPSET)
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def _write_serving(run: SavedRun, _: "keras.Model", path: pathlib.Path) -> Probabilities:
    import tensorflow as tf

    source = run.directory / SAVED_MODEL_NAME
    if not source.is_dir():
        raise InputError(f"{source}: no such directory; run the train.py command of this run again")
    shutil.copytree(source, path)
    serve = tf.saved_model.load(os.fspath(path)).signatures["serving_default"]
    return lambda images: serve(images=tf.constant(images))["probabilities"].numpy()


_WRITERS: dict[str, Callable[[SavedRun, "keras.Model", pathlib.Path], Probabilities]] = {
    "tflite": _write_tflite,
    "onnx": _write_onnx,
    "serving": _write_serving,
}
