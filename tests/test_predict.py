"""Predictions of a run on a small data set: every row once, in the order of the CSV, and nothing half-written."""

import csv
import json
import subprocess
import sys
import zipfile

import keras
import matplotlib.image
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluate.predict import make_predictor, predict_probabilities
from pipeline.evaluate.saved_run import read_run
from tests.helpers.saved_runs import NAMES, NORMALIZATION, SHAPE, expected, pixels, tiny_model, write_data, write_run
from tools import predict as tool


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("home")
    write_data(path / "data")
    write_run(path / "run")
    return path


def predict(home, tmp_path, *more, split="val", out="out.csv"):
    source = ["--data", home / "data", "--split", split] if split else []
    args = ["--run", home / "run", *source, "--out", tmp_path / out, "--batch-size", 10, *more]
    tool.main([str(arg) for arg in args])
    return list(csv.reader((tmp_path / out).open(newline="")))


@pytest.mark.parametrize("batch_size", [1, 10, 23, 64])
@pytest.mark.parametrize("rows", [0, 1, 23])
def test_every_row_is_predicted_once_at_any_batch_size(rows, batch_size):
    found = predict_probabilities(tiny_model(), NORMALIZATION, pixels(rows), SHAPE, batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(pixels(rows)), atol=1e-6)


def test_predictor_is_traced_once():
    model = tiny_model()
    traces = []
    model.call, call = lambda *args, **kwargs: (traces.append(1), call(*args, **kwargs))[1], model.call
    predictor = make_predictor(model, NORMALIZATION, SHAPE, 10)
    for rows in (3, 10, 23):
        predictor(pixels(rows))
    assert len(traces) == 1


def test_submission_has_ids_and_original_labels_in_order(home, tmp_path, capsys):
    header, *lines = predict(home, tmp_path, split="test")
    assert header == ["id", "label"]
    labels = [NAMES[label] for label in expected(pixels(23)).argmax(axis=1)]
    assert lines == [[str(1000 + 3 * row), label] for row, label in enumerate(labels)]
    said = capsys.readouterr().out
    assert "23 rows in" in said and "images/s" in said and "accuracy" not in said
    assert " ".join(f"{name}:{labels.count(name)}" for name in NAMES) in said


def test_labelled_split_says_its_accuracy(home, tmp_path, capsys):
    predict(home, tmp_path)
    assert "accuracy 82.61% of 23 labelled rows" in capsys.readouterr().out


def test_probabilities_have_a_column_for_each_class(home, tmp_path):
    predict(home, tmp_path, "--probabilities", tmp_path / "p.csv")
    header, *lines = csv.reader((tmp_path / "p.csv").open(newline=""))
    assert header == ["id", *NAMES]
    assert [line[0] for line in lines] == [str(1000 + 3 * row) for row in range(23)]
    np.testing.assert_allclose(np.array(lines, float)[:, 1:], expected(pixels(23)), atol=1e-6)


@pytest.mark.parametrize(("split", "any_red"), [("val", True), ("test", False)])
def test_grid_marks_wrong_ones_where_there_are_labels(home, tmp_path, split, any_red):
    predict(home, tmp_path, "--grid", tmp_path / "grid.png", split=split)
    colors = (matplotlib.image.imread(tmp_path / "grid.png")[..., :3] * 255).round().astype(int)
    assert (np.abs(colors - [0xC1, 0x12, 0x1F]).sum(axis=-1) < 6).any() == any_red


def refused(home, tmp_path, message, *more, **keywords):
    with pytest.raises(InputError, match=message):
        predict(home, tmp_path, *more, **keywords)
    assert not list(tmp_path.glob("*.csv"))


def test_unknown_split_names_those_there_are(home, tmp_path):
    refused(home, tmp_path, "no split 'dev' in marks; it has test, train, val", split="dev")


def test_existing_file_is_refused_and_kept(home, tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(InputError, match=r"out\.csv: exists; .*--overwrite"):
        predict(home, tmp_path)
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert len(predict(home, tmp_path, "--overwrite")) == 24


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "0"], "--batch-size 0"),
        (["--probabilities", "{tmp}/out.csv"], "given for two files"),
        (["--probabilities", "{tmp}/none/p.csv"], "no directory .*none; make it first"),
        (["--grid", "{tmp}"], "is a directory"),
    ],
    ids=["batch of nothing", "one file for two", "missing directory", "directory as file"],
)
def test_bad_options_are_refused(home, tmp_path, more, message):
    refused(home, tmp_path, message, *(word.format(tmp=tmp_path) for word in more))


def write_csv(path, rows=23, width=12, labels=None, ids=None, header=True):
    columns = {"id": ids, "label": labels, **{f"pixel{k}": pixels(rows)[:, k % 12] for k in range(width)}}
    columns = {name: values for name, values in columns.items() if values is not None}
    lines = [",".join(map(str, line)) for line in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns)] * header + lines) + "\n")
    return ["--csv", path]


def right_names(rows=23):
    return [NAMES[label] for label in expected(pixels(rows)).argmax(axis=1)]


def test_csv_gives_what_the_converted_split_gives(home, tmp_path):
    ids = 1000 + 3 * np.arange(23)
    from_split = predict(home, tmp_path, split="test", out="split.csv")
    assert predict(home, tmp_path, *write_csv(tmp_path / "in.txt", ids=ids), split=None) == from_split


def test_csv_without_ids_counts_rows_from_zero(home, tmp_path):
    _, *lines = predict(home, tmp_path, *write_csv(tmp_path / "in.txt", labels=right_names()), split=None)
    assert lines == [[str(row), label] for row, label in enumerate(right_names())]


def test_csv_with_labels_says_its_accuracy(home, tmp_path, capsys):
    labels = ["3" if name == "0" else name for name in right_names()]
    predict(home, tmp_path, *write_csv(tmp_path / "in.txt", labels=labels), split=None)
    assert f"accuracy {1 - right_names().count('0') / 23:.2%} of 23" in capsys.readouterr().out


def test_csv_longer_than_a_block_and_a_batch(home, tmp_path):
    _, *lines = predict(home, tmp_path, *write_csv(tmp_path / "in.txt", rows=70_001), "--batch-size", 4096, split=None)
    assert [int(line[0]) for line in lines] == list(range(70_001))
    assert [line[1] for line in lines] == right_names(70_001)


def test_csv_without_header(home, tmp_path):
    source = write_csv(tmp_path / "in.txt", labels=right_names(), header=False)
    _, *lines = predict(home, tmp_path, *source, "--no-header", "--label-column", "0", split=None)
    assert [line[1] for line in lines] == right_names()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"width": 16}, "16 pixel columns, but .*images of 4x3x1, which need 12"),
        ({"labels": [*["0"] * 22, "9"]}, r"in\.txt, row 22 \(counted from 0\): label 9 is none of the classes"),
        ({"labels": [*["0"] * 22, "x"]}, r"in\.txt, line 24: .*'x'"),
        ({"rows": 0}, r"in\.txt: a header"),
    ],
    ids=["other pixel count", "unknown label", "label is no number", "no rows"],
)
def test_csv_that_does_not_fit_is_refused(home, tmp_path, columns, message):
    refused(home, tmp_path, message, *write_csv(tmp_path / "in.txt", **columns), split=None)


def test_csv_is_never_overwritten_by_its_own_submission(home, tmp_path):
    source = write_csv(tmp_path / "in.txt")
    with pytest.raises(InputError, match="given for two files"):
        predict(home, tmp_path, *source, "--overwrite", split=None, out="in.txt")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["--csv", "in.txt", "--split", "val"], "a CSV has no splits"),
        (["--data", "data", "--no-header"], "leave them away with --data"),
    ],
)
def test_options_of_the_other_source_are_refused(home, tmp_path, source, message):
    refused(home, tmp_path, message, *source, split=None)


def edit_config(run_dir, part, **changes):
    config = json.loads((run_dir / "config.json").read_text())
    config[part].update(changes)
    (run_dir / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("data", {"image_shape": [28, 28, 1]}, "images of 4x3x1, but .* trained on marks with images of 28x28x1"),
        ("data", {"class_names": ["0", "3", "8"]}, "the classes 0, 3, 7, but .* on marks with 0, 3, 8"),
        ("data", {"image_shape": 28}, r"config\.json: not a run's configuration"),
        ("normalization", {"kind": "log"}, r"config\.json: not a run's configuration .*'log'"),
        ("normalization", {"mean": None}, r"config\.json: not a run's configuration"),
    ],
    ids=["another shape", "other classes", "shape is a number", "unknown normalization", "no mean"],
)
def test_run_that_does_not_fit_is_refused(tmp_path, part, changes, message):
    write_data(tmp_path / "data")
    write_run(tmp_path / "run")
    edit_config(tmp_path / "run", part, **changes)
    refused(tmp_path, tmp_path, message)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"no model\.keras here; .*to the end"),
        (lambda path: path.with_name("config.json").unlink(), r"no config\.json here"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), r"model\.keras: Keras cannot read this model"),
        (lambda path: path.write_bytes(b""), r"model\.keras: Keras cannot read this model"),
        (lambda path: keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(path), "of different runs"),
    ],
    ids=["no model", "no config", "cut model", "empty model", "model of another run"],
)
def test_broken_run_is_refused(home, tmp_path, spoil, message):
    write_run(tmp_path / "run")
    (tmp_path / "data").symlink_to(home / "data")
    spoil(tmp_path / "run" / "model.keras")
    refused(tmp_path, tmp_path, message)


def test_code_within_a_model_is_not_executed(home, tmp_path):
    inputs = keras.Input(SHAPE)
    x = keras.layers.Lambda(lambda images: images[:, 0, :, 0])(inputs)
    write_run(tmp_path / "run")
    keras.Model(inputs, x).save(tmp_path / "run" / "model.keras")
    (tmp_path / "data").symlink_to(home / "data")
    refused(tmp_path, tmp_path, "Keras cannot read this model")


@pytest.mark.parametrize(
    ("module", "name", "config"),
    [("subprocess", "Popen", {"args": ["touch", "MARK"]}), ("os", "system", {"command": "touch MARK"})],
)
def test_what_a_model_names_as_a_layer_is_not_called(tmp_path, module, name, config):
    write_run(tmp_path / "run")
    path, mark = tmp_path / "run" / "model.keras", tmp_path / "mark"
    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    model = json.loads(files["config.json"])
    model["config"]["layers"][1] |= {"module": module, "class_name": name, "registered_name": None, "config": config}
    files["config.json"] = json.dumps(model).replace("MARK", str(mark)).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in files.items():
            archive.writestr(entry, data)
    with pytest.raises(InputError, match="Keras cannot read this model"):
        read_run(tmp_path / "run").load_model()
    assert not mark.exists()


def test_run_directory_that_is_not_there(home, tmp_path):
    with pytest.raises(InputError, match="no such run directory"):
        predict(tmp_path, tmp_path)


def test_diverged_model_writes_nothing(home, tmp_path):
    model = tiny_model()
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    write_run(tmp_path / "run", model)
    (tmp_path / "data").symlink_to(home / "data")
    refused(tmp_path, tmp_path, "id 1000 is not a number.*diverged")


def test_help_imports_nothing_heavy():
    heavy = "('tensorflow', 'keras', 'pandas', 'matplotlib', 'sklearn', 'rich')"
    code = f"""
import sys
import zipfile
from tools import predict
try:
    predict.main(["--help"])
except SystemExit:
    assert not [name for name in {heavy} if name in sys.modules]
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert "--probabilities" in found.stdout
