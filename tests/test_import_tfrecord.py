import pytest

from pipeline.errors import InputError
from tests.helpers.foreign import digit_records, write_records
from tools import import_tfrecord


def test_command_prints_a_summary_and_refuses_an_existing_directory(tmp_path, capsys):
    write_records(tmp_path / "train.tfrecord", digit_records())
    command = [str(tmp_path), "--out", str(tmp_path / "out"), "--shards", "2"]
    assert import_tfrecord.main(command) == 0
    assert "out: 203 images of 8 x 8 x 1, 3 classes" in capsys.readouterr().out
    with pytest.raises(InputError, match="exists; choose another --out"):
        import_tfrecord.main(command)
    assert (
        import_tfrecord.main([*command, "--overwrite", "--image-shape", "4", "16", "1", "--val-fraction", "0.2"]) == 0
    )
    out = capsys.readouterr().out
    assert "images of 4 x 16 x 1" in out
    assert "val" in out


@pytest.mark.parametrize("option", [["--shards", "0"], ["--image-shape", "2", "0", "1"], ["--what"]])
def test_invalid_arguments_are_an_input_error(option, tmp_path):
    (tmp_path / "train.tfrecord").write_bytes(b"")
    with pytest.raises(InputError, match=option[0]):
        import_tfrecord.main([str(tmp_path), "--out", "out", *option])


def test_missing_path_is_refused_before_tensorflow_is_imported(tmp_path, monkeypatch):
    def fail():
        raise AssertionError("TensorFlow is imported first")

    monkeypatch.setattr("pipeline.train.environment.import_tensorflow", fail)
    with pytest.raises(InputError, match="none: no such directory"):
        import_tfrecord.main([str(tmp_path / "none"), "--out", str(tmp_path / "out")])
