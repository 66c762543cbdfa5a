import bz2
import gzip
import os

import msgspec
import pytest

from pipeline.convert import converter
from pipeline.convert.repair import repair
from pipeline.errors import InputError
from pipeline.format.manifest import Validation, load_manifest
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, convert_texts, left_over, table, table_with_ids

TEST, OTHER, VAL = (
    f"data-{name}-of-00003" for name in ("test.tfrecord-00001", "test.tfrecord-00002", "val.tfrecord-00000")
)


@pytest.fixture(params=[bytes, gzip.compress], ids=["plain", "gzip"])
def directory(request, tmp_path):
    pack = request.param
    texts = {"train": pack(table_with_ids(200).encode()), "test": pack(table(40, "id", lambda k: 90 - k).encode())}
    convert_texts(tmp_path, texts, shards=3, val_fraction=0.1)
    return tmp_path / "data"


def sources(directory, *splits):
    return [(split, directory.parent / f"{split}0.csv") for split in splits]


# What happens to shards, and the splits whose CSVs are then needed.
DAMAGES = {
    "flipped bit": (lambda path, stride: faults.flip_bit(path, 2 * stride + 60), ["test"]),
    "truncated inside a record": (lambda path, stride: faults.cut_inside_record(path, stride, 11), ["test"]),
    "truncated on a boundary": (lambda path, stride: faults.cut_on_boundary(path, stride, 5), ["test"]),
    "bytes at the end": (lambda path, _: path.write_bytes(path.read_bytes() + b"xy"), ["test"]),
    "emptied": (lambda path, _: faults.cut(path, 0), ["test"]),
    "missing": (lambda path, _: faults.drop(path), ["test"]),
    "doubled record": (lambda path, stride: faults.double_record(path, stride, 1, grow=False), ["test"]),
    "copy of another": (lambda path, _: path.write_bytes(path.with_name(OTHER).read_bytes()), ["test"]),
    "swapped": (lambda path, _: faults.swap(path, path.with_name(OTHER)), []),
    "renamed": (lambda path, _: path.rename(path.with_name("x.tfrecord")), []),
    "changed metadata": (lambda path, _: path.with_name("features.json").write_text("{}"), []),
    "lost metadata": (lambda path, _: path.with_name("label.labels.txt").unlink(), []),
    "validation": (lambda path, _: faults.flip_bit(path.with_name(VAL), 60), ["train"]),
    "several splits": (
        lambda path, _: [faults.drop(shard) for shard in path.parent.glob("*-00001-of-*")],
        ["train", "test"],
    ),
    "all shards": (lambda path, _: [faults.drop(shard) for shard in path.parent.glob("*tfrecord*")], ["test", "train"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_byte_is_restored(directory, damage):
    change, needed = DAMAGES[damage]
    before = all_bytes(directory)
    change(directory / TEST, load_manifest(directory).stride)
    assert all_bytes(directory) != before
    assert repair(directory, sources(directory, *needed))
    assert all_bytes(directory) == before
    assert left_over(directory.parent) == ["data"]
    (directory / "other.tfrecord").write_bytes(b"mine")
    assert repair(directory, []) == ["other.tfrecord: not touched, the manifest does not list it; move it away"]
    assert (directory / "other.tfrecord").read_bytes() == b"mine"


def test_worker_processes_restore_the_same(directory, monkeypatch):
    monkeypatch.setattr(converter, "_SMALL_BYTES", 0)
    test_every_byte_is_restored(directory, "several splits")


@pytest.mark.parametrize(
    ("split", "name", "fragment"),
    [
        (None, "", f"{TEST}: can only be rebuilt from test0.csv; give it as --from test=test0.csv"),
        ("test", "train0.csv", "train0.csv: not the test0.csv that was converted (other size or content)"),
        ("test", "edited.csv", "edited.csv: "),
        ("test", "none.csv", "none.csv: no such file"),
        ("val", "train0.csv", "no CSV of a split 'val' was converted, only of test, train"),
    ],
)
def test_without_the_right_csv_nothing_changes(directory, split, name, fragment):
    folder = directory.parent
    (folder / "edited.csv").write_bytes((folder / "test0.csv").read_bytes()[:-12] + b"?" * 12)
    (directory / TEST).unlink()
    (directory / "features.json").unlink()
    before = all_bytes(directory)
    with pytest.raises(InputError) as caught:
        repair(directory, [(split, folder / name)] if split else [])
    assert fragment in str(caught.value)
    assert all_bytes(directory) == before
    assert left_over(folder) == ["data"]


@pytest.mark.parametrize("name", [TEST, "features.json"])
def test_directory_with_the_name_of_a_file_is_not_replaced(directory, name):
    (directory / name).unlink()
    (directory / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: a directory has the name of a file to repair; move it away"):
        repair(directory, sources(directory, "test"))


@pytest.mark.parametrize("create", [os.mkfifo, lambda path: path.symlink_to("/dev/null")], ids=["FIFO", "link"])
@pytest.mark.parametrize("name", [TEST, "features.json"])
def test_only_regular_files_are_replaced(directory, name, create):
    (directory / name).unlink()
    create(directory / name)
    before = (directory / name).lstat()
    with pytest.raises(InputError, match=f"{name}: not a regular file, which a repair would replace; move it away"):
        repair(directory, sources(directory, "test"))
    after = (directory / name).lstat()  # whose time of access may have changed
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)


def test_two_repairs_at_once_are_refused(directory):
    with faults.held_lock(directory.parent / ".data.lock"), pytest.raises(InputError, match="writing or repairing it"):
        repair(directory, [])
    assert repair(directory, []) == []


def test_leftovers_of_a_killed_repair_are_removed(directory):
    before = all_bytes(directory)
    faults.leave_stale_temporary(directory / "features.json")
    (directory / TEST).rename(directory / ".moving-0123abcd.tfrecord")
    (directory.parent / ".data.repair" / "half").mkdir(parents=True)
    assert repair(directory, []) == [f"{TEST}: renamed back from .moving-0123abcd.tfrecord"]
    assert all_bytes(directory) == before
    assert left_over(directory.parent) == ["data"]


def test_repair_killed_between_its_shards_is_finished_by_the_next(directory):
    before = all_bytes(directory)
    for name in (TEST, OTHER):
        (directory / name).unlink()
    arguments = ["repair", directory, "--from", f"test={directory.parent}/test0.csv"]
    # The second rename: the first gives the shard its name in the scratch directory.
    assert faults.run(faults.dying("os.rename", f"*/{OTHER}", 2, "tools/inspect_tfrecord.py", *arguments)).killed
    assert (directory / TEST).read_bytes() == before[TEST]
    assert not (directory / OTHER).exists()
    assert repair(directory, sources(directory, "test")) == [f"{OTHER}: rebuilt"]
    assert all_bytes(directory) == before


def test_columns_named_by_numbers_are_read_again(tmp_path):
    train = "0,5,1,2,3,4\n" + "".join(f"{k % 3 + 5},{k},{k},9,8,7\n" for k in range(9))
    convert_texts(tmp_path, {"train": train}, shards=2, label_column="0", id_column="5")
    before = all_bytes(tmp_path / "data")
    (tmp_path / "data" / "data-train.tfrecord-00001-of-00002").unlink()
    repair(tmp_path / "data", sources(tmp_path / "data", "train"))
    assert all_bytes(tmp_path / "data") == before


@pytest.mark.parametrize("packs", [(bytes, gzip.compress), (bz2.compress, gzip.compress), (bytes, bytes)])
@pytest.mark.parametrize("rows", [23, 30])
def test_several_files_in_another_order_are_recognised(tmp_path, packs, rows):
    texts = ["".join(f"{k % 2},{k % 10},{pixel},2,3\n" for k in range(n)) for pixel, n in ((1, rows), (4, 30))]
    options = {"has_header": False, "label_column": "0", "val_fraction": 0.3, "val_group_size": 4, "seed": 3}
    packed = [pack(text.encode()) for pack, text in zip(packs, texts, strict=True)]
    convert_texts(tmp_path, {"train": packed}, shards=3, **options)
    before = all_bytes(tmp_path / "data")
    for path in (tmp_path / "data").glob("*0000[12]*"):
        path.unlink()
    repair(tmp_path / "data", [("train", tmp_path / f"train{k}.csv") for k in (1, 0)])
    assert all_bytes(tmp_path / "data") == before


def rewrite(directory, **fields):
    """Replace fields of the manifest, with a hash that matches."""
    forged = msgspec.structs.replace(load_manifest(directory), **fields)
    (directory / "manifest.json").write_text(forged.to_json())


@pytest.mark.parametrize(
    ("fields", "fragment"),
    [
        ({"sources": (), "validation": Validation(), "planned_shards": {}}, "its rows do not come from plain CSVs"),
        ({"planned_shards": {"test": 2, "train": 3}}, f"{TEST}: its CSVs give other records than were written"),
        ({"planned_shards": {"test": 99_999, "train": 3}}, f"{TEST}: its CSVs give other records than were written"),
        ({"planned_shards": {}}, f"{TEST}: its CSVs give other records than were written"),
        ({"class_names": ("a", "b", "c")}, "its class names are not labels of a CSV"),
        ({"class_names": ("0", "1", str(2**63))}, "its class names are not labels of a CSV"),
    ],
)
def test_forged_manifest_is_refused_in_one_line(directory, fields, fragment):
    (directory / TEST).unlink()
    rewrite(directory, **fields)
    before = all_bytes(directory)
    with pytest.raises(InputError) as caught:
        repair(directory, [] if "sources" in fields else sources(directory, "test"))
    assert fragment in str(caught.value)
    assert all_bytes(directory) == before
