import json
import re

import msgspec
import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.status import reported_to
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, convert_texts, table
from tools import inspect_tfrecord


@pytest.fixture
def directory(tmp_path):
    texts = {"train": table(40), "test": table(40, "id", lambda k: k)}
    convert_texts(tmp_path, texts, shards=3, val_fraction=0.25)
    return tmp_path / "data"


def run(command, directory, *arguments):
    return inspect_tfrecord.main([command, str(directory), *map(str, arguments)])


def test_show_names_splits_classes_sources_and_statistics(directory, capsys):
    assert run("show", directory) == 0
    out = capsys.readouterr().out
    parts = "val is 0.25 of train", "classes: 0, 1, 2", "train from train0.csv: 40 rows, 5", "mean"
    assert "data: 80 images of 2 x 2 x 1, 3 classes" in out
    assert all(part in out for part in parts)


def test_show_without_labels_names_no_classes(tmp_path, capsys):
    convert_texts(tmp_path, {"test": table(3, "id")})
    run("show", tmp_path / "data")
    out = capsys.readouterr().out
    assert "images of 2 x 2 x 1, no labels" in out
    assert "classes" not in out


def test_show_as_json_is_the_manifest(directory, capsys):
    run("show", directory, "--json")
    assert json.loads(capsys.readouterr().out) == json.loads((directory / "manifest.json").read_text())


def test_what_reads_every_byte_says_so_while_it_lasts(directory):
    phases = []
    with reported_to(phases.append):
        for command in ("verify", "audit", "repair"):
            assert run(command, directory) == 0
    assert phases == ["verifying every record", "auditing every image", "verifying and repairing"]


def test_verify_accepts_what_was_written(directory, capsys):
    assert run("verify", directory) == 0
    assert capsys.readouterr().out == f"{directory}: 9 shards with 80 records are as they were written\n"


def test_verify_reports_each_problem_with_exit_code_1(directory, capsys):
    name = "data-test.tfrecord-00001-of-00003"
    faults.flip_bit(directory / name, 100)
    (directory / "features.json").unlink()
    assert run("verify", directory) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: record 1 (counted from 0) is corrupt",
        "features.json: missing",
    ]


def test_repair_prints_each_change(directory, capsys):
    before = all_bytes(directory)
    (directory / "data-val.tfrecord-00001-of-00003").unlink()
    (directory / "features.json").unlink()
    assert run("repair", directory, "--from", f"train={directory.parent}/train0.csv") == 0
    assert capsys.readouterr().out.splitlines() == [
        "data-val.tfrecord-00001-of-00003: rebuilt",
        "features.json: written again",
        f"{directory}: everything is as it was written",
    ]
    assert all_bytes(directory) == before
    assert run("repair", directory) == 0
    assert capsys.readouterr().out == f"{directory}: everything is as it was written, nothing to repair\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [(r'"pixel_mean": \[\s+', '"pixel_mean": [1'), ('"num_rows": 40', '"num_rows": 41'), ('"seed": 0', '"seed": 1')],
)
def test_edited_manifest_is_reported_and_not_repaired_by(directory, capsys, before, after):
    path = directory / "manifest.json"
    text, count = re.subn(before, after, path.read_text(), count=1)
    assert count
    path.write_text(text)
    assert run("verify", directory) == 1
    assert capsys.readouterr().out.startswith("manifest.json: changed since it was written\n")
    with pytest.raises(InputError, match="manifest.json: changed since it was written, so no shard can be verified by"):
        run("repair", directory)
    with pytest.raises(InputError, match="manifest.json: changed since it was written.*inspect_tfrecord.py verify"):
        run("show", directory)


def test_class_counts_are_compared_with_the_records(directory, capsys):
    manifest = load_manifest(directory)
    train = msgspec.structs.replace(manifest.split("train"), class_counts=(11, 9, 10))
    forged = msgspec.structs.replace(manifest, splits={**manifest.splits, "train": train})
    (directory / "manifest.json").write_text(forged.to_json())
    assert run("verify", directory) == 1
    assert capsys.readouterr().out == "split train: its records do not have the class 1 that the manifest counts\n"


@pytest.mark.parametrize("argv", [[], ["show"], ["fix", "x"], ["repair", "x", "--from", "test"], ["show", "/nowhere"]])
def test_invalid_arguments_are_an_input_error(argv):
    with pytest.raises(InputError):
        inspect_tfrecord.main(argv)
