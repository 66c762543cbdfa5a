import dataclasses
import fcntl
import gzip
import json
import os

import numpy as np
import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.errors import InputError
from pipeline.format.manifest import Validation, load_manifest
from pipeline.format.verify import _gaps
from tests.helpers.conversion import all_bytes
from tests.helpers.faults import (
    cut_inside_record,
    cut_on_boundary,
    double_record,
    drop,
    flip_bit,
    leave_stale_temporary,
    swap,
)
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


# What is done to the middle shard of test, which holds ids 1, 4, 7, ... 37.
NAME, OTHER = "data-test.tfrecord-00001-of-00003", "data-test.tfrecord-00002-of-00003"
DAMAGES = {
    "a flipped bit": (
        lambda path, stride: flip_bit(path, 2 * stride + 60),
        [f"{NAME}: record 2 (counted from 0) is damaged", "split test: ids that are missing: 7"],
    ),
    "two flipped bits": (
        lambda path, stride: (flip_bit(path, 2 * stride + 60), flip_bit(path, 4 * stride)),
        [f"{NAME}: record 2 (counted from 0) is damaged, 2 in all", "split test: ids that are missing: 7, 13"],
    ),
    "cut inside a record": (
        lambda path, stride: cut_inside_record(path, stride, 11),
        [
            f"{NAME}: 966 bytes, expected 1,092: cut inside record 11; 2 of 13 are gone",
            "split test: ids that are missing: 34, 37",
        ],
    ),
    "cut on a record boundary": (
        lambda path, stride: cut_on_boundary(path, stride, 5),
        [
            f"{NAME}: 420 bytes, expected 1,092: cut on a record boundary, after record 4; 8 of 13 are gone",
            "split test: ids that are missing: 16, 19, 22, 25, 28, ... (8 in all)",
        ],
    ),
    "bytes at the end": (
        lambda path, stride: path.write_bytes(path.read_bytes() + b"xy"),
        [f"{NAME}: 1,094 bytes, expected 1,092: 2 too many"],
    ),
    "missing": (
        lambda path, _: drop(path),
        [f"{NAME}: missing", "split test: ids that are missing: 1, 4, 7, 10, 13, ... (13 in all)"],
    ),
    "a doubled record": (
        lambda path, stride: double_record(path, stride, 1, grow=False),
        [
            f"{NAME}: records 0 to 12 are sound, but not those that were written there (doubled or moved)",
            "split test: ids that stand twice: 4",
            "split test: ids that are missing: 7",
        ],
    ),
    "swapped": (
        lambda path, _: swap(path, path.with_name(OTHER)),
        [
            f"{NAME}: holds the records of {OTHER}; its own are in {OTHER}",
            f"{OTHER}: holds the records of {NAME}; its own are in {NAME}",
        ],
    ),
    "a copy of another": (
        lambda path, _: path.write_bytes(path.with_name(OTHER).read_bytes()),
        [
            f"{NAME}: holds the records of {OTHER}, which has them too",
            "split test: ids that stand twice: 2, 5, 8, 11, 14, ... (13 in all)",
            "split test: ids that are missing: 1, 4, 7, 10, 13, ... (13 in all)",
        ],
    ),
    "emptied": (
        lambda path, _: path.write_bytes(b""),
        [
            f"{NAME}: 0 bytes, expected 1,092: empty; 13 of 13 are gone",
            "split test: ids that are missing: 1, 4, 7, 10, 13, ... (13 in all)",
        ],
    ),
    "renamed": (
        lambda path, _: path.rename(path.with_name("x.tfrecord")),
        [f"{NAME}: missing; its own are in x.tfrecord", f"x.tfrecord: extra, it holds the records of {NAME}"],
    ),
    "changed metadata": (
        lambda path, _: path.with_name("features.json").write_text("{}"),
        ["features.json: not as it was written"],
    ),
    "lost metadata": (lambda path, _: path.with_name("label.labels.txt").unlink(), ["label.labels.txt: missing"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_says_what_happened_and_repair_puts_every_byte_back(directory, capsys, damage):
    change, expected = DAMAGES[damage]
    before = all_bytes(directory)
    change(directory / NAME, load_manifest(directory).stride)
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    assert capsys.readouterr().out.splitlines() == expected
    assert inspect_tfrecord.main(["repair", str(directory), "--from", f"test={directory.parent / 'test.csv'}"]) == 0
    assert all_bytes(directory) == before


def test_repair_rebuilds_train_and_val_together_from_their_one_csv(directory):
    before = all_bytes(directory)
    for name in ("train.tfrecord-00000-of-00003", "train.tfrecord-00002-of-00003", "val.tfrecord-00001-of-00003"):
        (directory / f"data-{name}").write_bytes(b"")
    assert inspect_tfrecord.main(["repair", str(directory), "--from", f"train={directory.parent / 'train.csv'}"]) == 0
    assert all_bytes(directory) == before


@pytest.mark.parametrize("damage", ["swapped", "renamed", "changed metadata"])
def test_what_only_has_to_be_renamed_or_said_again_needs_no_csv(directory, damage):
    before = all_bytes(directory)
    DAMAGES[damage][0](directory / NAME, load_manifest(directory).stride)
    assert inspect_tfrecord.main(["repair", str(directory)]) == 0
    assert all_bytes(directory) == before


def test_an_extra_shard_is_named_and_left_alone(directory, capsys):
    (directory / "other.tfrecord").write_bytes(b"mine")
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    assert capsys.readouterr().out == "other.tfrecord: extra, the manifest does not name it\n"
    assert inspect_tfrecord.main(["repair", str(directory)]) == 0
    assert "other.tfrecord: left alone" in capsys.readouterr().out
    assert (directory / "other.tfrecord").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], f"{NAME}: can be rebuilt from test.csv alone; give it as --from test=test.csv"),
        (["--from", "test=train.csv"], "train.csv: not the test.csv that was converted, its SHA-256 is not"),
        (["--from", "test=none.csv"], "none.csv: no such file"),
        (["--from", "val=train.csv"], "no CSV of a split 'val' was converted, only of test, train"),
        (["--from", "test"], "--from 'test' must be NAME=FILE"),
    ],
)
def test_repair_without_the_right_csv_says_why_and_changes_nothing(directory, monkeypatch, arguments, fragment):
    monkeypatch.chdir(directory.parent)
    (directory / NAME).unlink()
    before = all_bytes(directory)
    with pytest.raises(InputError) as caught:
        inspect_tfrecord.main(["repair", str(directory), *arguments])
    assert fragment in str(caught.value)
    assert all_bytes(directory) == before


@pytest.mark.parametrize("name", [NAME, "features.json"])
def test_a_directory_with_the_name_of_a_file_is_not_replaced(directory, capsys, name):
    (directory / name).unlink()
    (directory / name).mkdir()
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    assert f"{name}: a directory has its name" in capsys.readouterr().out
    with pytest.raises(InputError, match=f"{name}: a directory has the name of a file to repair; move it away"):
        inspect_tfrecord.main(["repair", str(directory), "--from", f"test={directory.parent / 'test.csv'}"])


def test_two_repairs_at_once_are_refused(directory):
    handle = os.open(directory, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another repair is at work on it"):
        inspect_tfrecord.main(["repair", str(directory)])
    os.close(handle)
    assert inspect_tfrecord.main(["repair", str(directory)]) == 0


def test_what_a_killed_repair_left_is_cleaned_up(directory):
    before = all_bytes(directory)
    shard = directory / NAME
    leave_stale_temporary(shard)
    shard.rename(directory / ".moving-0123abcd.tfrecord")
    assert inspect_tfrecord.main(["repair", str(directory)]) == 0
    assert all_bytes(directory) == before


def edit(directory, before, after):
    path = directory / "manifest.json"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ('"pixel_mean": [\n  ', '"pixel_mean": [\n  1', "pixel_mean"),
        ('"page_crc32c": "', '"page_crc32c": "00000000', None),
        ('"num_rows": 40', '"num_rows": 41', "the shards do not prove in which field"),
        ('"seed": 0', '"seed": 1', "the shards do not prove in which field"),
    ],
)
def test_an_edited_manifest_is_put_back_where_its_own_hash_proves_what_it_said(directory, capsys, before, after, field):
    whole = all_bytes(directory)
    edit(directory, before, after)
    if field is None:  # then it does not even have a manifest's form
        with pytest.raises(InputError, match="page checksums"):
            inspect_tfrecord.main(["verify", str(directory)])
        return
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    assert capsys.readouterr().out.startswith(f"manifest.json: changed since it was written: {field}\n")
    if field == "pixel_mean":
        assert inspect_tfrecord.main(["repair", str(directory)]) == 0
        assert all_bytes(directory) == whole
    else:
        with pytest.raises(InputError, match="the shards do not prove what it said"):
            inspect_tfrecord.main(["repair", str(directory)])


def test_class_counts_are_compared_with_the_labels_in_the_records(directory, capsys):
    manifest = load_manifest(directory)
    train = manifest.split("train")
    lying = dataclasses.replace(
        train, class_counts=tuple(count + step for count, step in zip(train.class_counts, (1, -1), strict=True))
    )
    forged = dataclasses.replace(manifest, splits={**manifest.splits, "train": lying})
    (directory / "manifest.json").write_text(forged.to_json())
    assert inspect_tfrecord.main(["verify", str(directory)]) == 1
    assert capsys.readouterr().out == "split train: its records do not have the class 0 that the manifest counts\n"


def test_columns_named_by_numbers_are_found_again(tmp_path):
    train = tmp_path / "train.csv"
    train.write_text("0,5,1,2,3,4\n" + "".join(f"{k % 3 + 5},{k},{k},9,8,7\n" for k in range(9)))
    options = {"label_column": "0", "id_column": "5"}
    convert(ConvertConfig(splits=(("train", train),), out=tmp_path / "data", shards=2, **options))
    before = all_bytes(tmp_path / "data")
    (tmp_path / "data" / "data-train.tfrecord-00001-of-00002").unlink()
    inspect_tfrecord.main(["repair", str(tmp_path / "data"), "--from", f"train={train}"])
    assert all_bytes(tmp_path / "data") == before


def test_several_files_without_header_in_groups_are_rebuilt(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv.gz"]
    paths[0].write_text("".join(f"{k % 2},{k},1,2,3\n" for k in range(23)))
    paths[1].write_bytes(gzip.compress("".join(f"{k % 2},{k},4,5,6\n" for k in range(30)).encode()))
    options = {"has_header": False, "label_column": "0", "val_fraction": 0.3, "val_group_size": 4, "seed": 3}
    convert(ConvertConfig(splits=[("train", path) for path in paths], out=tmp_path / "data", shards=3, **options))
    before = all_bytes(tmp_path / "data")
    for path in (tmp_path / "data").glob("*0000[12]*"):
        path.unlink()
    # Which file was which follows from their hashes.
    given = [part for path in reversed(paths) for part in ("--from", f"train={path}")]
    inspect_tfrecord.main(["repair", str(tmp_path / "data"), *given])
    assert all_bytes(tmp_path / "data") == before


def test_ids_of_splits_that_no_csv_was_kept_of_are_told_apart(directory, capsys):
    manifest = dataclasses.replace(load_manifest(directory), sources=(), validation=Validation())
    (directory / "manifest.json").write_text(manifest.to_json())
    (directory / NAME).unlink()
    inspect_tfrecord.main(["verify", str(directory)])
    assert capsys.readouterr().out == f"{NAME}: missing\n"
    with pytest.raises(InputError, match=f"{NAME}: cannot be rebuilt, the data set was not made from CSVs"):
        inspect_tfrecord.main(["repair", str(directory)])


@pytest.mark.parametrize("found", [[], [0], [1], [0, 1, 2], [2], [-3, 1, 9], [0, 1, 5, 6, 20]])
def test_missing_ids_are_those_between_the_found_ones(found):
    expected = [value for value in range(9) if value not in found]
    assert _gaps(np.array(found, np.int64), 9) == expected[:5]


def test_missing_ids_of_an_absurd_total_take_no_memory():
    assert _gaps(np.array([0, 2]), 2**62) == [1, 3, 4, 5, 6]


def test_a_directory_without_a_data_set_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no manifest.json here"):
        inspect_tfrecord.main(["show", str(tmp_path)])


@pytest.mark.parametrize("argv", [[], ["show"], ["mend", "x"]])
def test_wrong_arguments_are_an_input_error(argv):
    with pytest.raises(InputError):
        inspect_tfrecord.main(argv)
