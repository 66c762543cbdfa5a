import json

import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.convert.manifest import load_manifest
from pipeline.errors import InputError
from tools import inspect_tfrecord


@pytest.fixture
def directory(tmp_path):
    header = "p0,p1,p2,p3\n"
    rows = [f"{k},0,1,255\n" for k in range(40)]
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("label," + header + "".join(f"{k % 4 // 2},{row}" for k, row in enumerate(rows)))
    test.write_text(header + "".join(rows))
    out = tmp_path / "data"
    convert(ConvertConfig(splits=(("train", train), ("test", test)), out=out, shards=3, val_fraction=0.1))
    return out


def test_show_names_splits_classes_sources_and_statistics(directory, capsys):
    assert inspect_tfrecord.main(["show", str(directory)]) == 0
    out = capsys.readouterr().out
    for part in ("data: images of 2 x 2 x 1, 2 classes", "train.csv", "test", "val is 0.1 of train", "mean", "50.0%"):
        assert part in out


def test_show_as_json_is_the_manifest(directory, capsys):
    inspect_tfrecord.main(["show", "--json", str(directory)])
    assert json.loads(capsys.readouterr().out) == json.loads((directory / "manifest.json").read_text())


def test_verify_passes_what_was_written(directory, capsys):
    assert inspect_tfrecord.main(["verify", str(directory)]) == 0
    assert "9 shards with 80 records are as they were written" in capsys.readouterr().out


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": (lambda path, stride: flip(path, 2 * stride + 60), "record 2 (counted from 0) is damaged"),
    "a lost tail": (lambda path, stride: path.write_bytes(path.read_bytes()[:-1]), "bytes, expected"),
    "a missing file": (lambda path, _: path.unlink(), "missing"),
    "two records swapped": (
        lambda path, stride: path.write_bytes(
            path.read_bytes()[stride : 2 * stride] + path.read_bytes()[:stride] + path.read_bytes()[2 * stride :]
        ),
        "SHA-256",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_the_damaged_shard(directory, capsys, damage):
    change, fragment = DAMAGES[damage]
    name = "data-train.tfrecord-00001-of-00003"
    change(directory / name, load_manifest(directory).stride)
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")
    assert fragment in lines[0]


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "label.labels.txt"])
def test_verify_names_damaged_metadata(directory, capsys, name):
    (directory / name).write_text("{}")
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    assert capsys.readouterr().out == f"{name}: not as it was written\n"


def test_a_directory_without_a_data_set_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no manifest.json here"):
        inspect_tfrecord.main(["show", str(tmp_path)])


@pytest.mark.parametrize("argv", [[], ["show"], ["repair", "x"]])
def test_wrong_arguments_are_an_input_error(argv):
    with pytest.raises(InputError):
        inspect_tfrecord.main(argv)
