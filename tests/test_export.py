"""Exported formats give Keras's probabilities, read by the libraries that serve them."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.evaluate import export as room
from tests.helpers.saved_runs import SHAPE, expected, pixels, write_home
from tools import export

IMAGES = pixels(7).reshape(-1, *SHAPE)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_home(tmp_path_factory.mktemp("home"))


def run_export(home, kind, out, *more):
    export.main(
        [str(arg) for arg in ("--run", home / "run", "--data", home / "data", "--format", kind, "--out", out, *more)]
    )


def tflite(path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], IMAGES.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], IMAGES)
    interpreter.invoke()
    return interpreter.get_tensor(result["index"])


def onnx(path):
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", list(SHAPE))
    return session.run([result.name], {given.name: IMAGES})[0]


@pytest.mark.parametrize(("kind", "read"), [("tflite", tflite), ("onnx", onnx)])
def test_a_file_gives_the_probabilities_of_keras(home, tmp_path, capsys, kind, read):
    for package in room._PACKAGES[kind]:
        pytest.importorskip(package, reason="needs the extra `export`")
    out = tmp_path / f"model.{kind}"
    run_export(home, kind, out)
    assert f"{out}: 23 of 23 images in the class that Keras gives" in capsys.readouterr().out
    np.testing.assert_allclose(read(out), expected(pixels(7)), atol=1e-5)
    with pytest.raises(InputError, match="exists; name another file or use --overwrite"):
        run_export(home, kind, out)


def test_serving_gets_one_version_after_another(home, tmp_path):
    for _ in range(2):
        run_export(home, "serving", tmp_path / "models/mine")
    assert sorted(path.name for path in (tmp_path / "models/mine").iterdir()) == ["1", "2"]
    serve = tf.saved_model.load(tmp_path / "models/mine/2").signatures["serving_default"]
    np.testing.assert_allclose(serve(images=tf.constant(IMAGES))["probabilities"], expected(pixels(7)), atol=1e-5)


def test_a_model_that_differs_from_keras_is_not_kept(home, tmp_path, monkeypatch):
    def write(run, model, path):
        path.mkdir(parents=True)
        return lambda images: np.full((len(images), 3), np.nan)

    monkeypatch.setitem(room._WRITERS, "serving", write)
    with pytest.raises(InputError, match="differs from Keras by nan in a probability; not written"):
        run_export(home, "serving", tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(room._PACKAGES, "onnx", ("no_such_package",))
    with pytest.raises(InputError, match=r"--format onnx needs no-such-package: .* pip install -e '.\[export\]'"):
        room.check_packages("onnx")
