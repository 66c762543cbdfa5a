import os
import shutil

import pytest

from pipeline.convert.output import check_space, new_directory
from pipeline.errors import InputError, TryAgainError
from tests.helpers import faults
from tests.helpers.conversion import GOOD, all_bytes, convert_texts, left_over, read_split, table


def test_existing_directory_is_refused_and_unchanged(tmp_path):
    convert_texts(tmp_path, {"train": GOOD})
    before = all_bytes(tmp_path / "data")
    with pytest.raises(InputError, match="--overwrite"):
        convert_texts(tmp_path, {"train": table(20)})
    assert all_bytes(tmp_path / "data") == before
    assert left_over(tmp_path) == ["data"]


def test_overwrite_replaces_a_data_set_once_the_new_one_is_complete(tmp_path):
    convert_texts(tmp_path, {"train": GOOD}, shards=8)
    with pytest.raises(InputError, match="256"):
        convert_texts(tmp_path, {"train": GOOD + "1,2,3,4,256\n"}, overwrite=True)
    assert len(read_split(tmp_path / "data", "train")[2]) == 10
    convert_texts(tmp_path, {"train": table(20)}, overwrite=True, shards=2)
    assert len(read_split(tmp_path / "data", "train")[2]) == 20
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "create",
    [
        lambda path: path.write_text("precious"),
        lambda path: path.symlink_to("elsewhere"),
        lambda path: path.symlink_to("/dev/null"),
        os.mkfifo,
        lambda path: (path.with_name("real").mkdir(), path.symlink_to("real")),
    ],
    ids=["file", "dangling link", "link to a device", "FIFO", "link to a directory"],
)
def test_only_directories_are_replaced(tmp_path, create, overwrite):
    create(tmp_path / "data")
    before, names = (tmp_path / "data").lstat(), left_over(tmp_path)
    with pytest.raises(InputError, match="data: exists and is not a directory; choose another --out"):
        convert_texts(tmp_path, {"train": GOOD}, overwrite=overwrite)
    assert (tmp_path / "data").lstat() == before
    assert left_over(tmp_path) == names


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("manifest.json", "its manifest.json cannot be read, so it may not be a data set; move it away"),
        ("notes.txt", "has no manifest.json, so it is not a data set; --overwrite does not touch it"),
    ],
)
def test_overwrite_does_not_touch_other_directories(tmp_path, name, fragment):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("precious")
    with pytest.raises(InputError, match=fragment):
        convert_texts(tmp_path, {"train": GOOD}, overwrite=True)
    assert (tmp_path / "data" / name).read_text() == "precious"


FOREIGN = ["notes.txt", "other.tfrecord", "data-train.tfrecord-00001-of-00002", ".hidden"]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("when", ["before", "during"])
def test_overwrite_never_removes_foreign_files(tmp_path, name, when):
    convert_texts(tmp_path, {"train": GOOD}, shards=1)
    path = tmp_path / "data" / name
    before = {**all_bytes(tmp_path / "data"), name: b"precious"}
    if when == "before":
        path.write_text("precious")
    with pytest.raises(InputError, match=f"{name} in it is not of the data set; move it away before --overwrite"):
        convert_texts(
            tmp_path, {"train": table(20)}, on_progress=lambda *_: path.write_text("precious"), overwrite=True
        )
    assert all_bytes(tmp_path / "data") == before
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize("content", ["precious", None])
def test_directory_that_appears_during_a_conversion_is_not_touched(tmp_path, content):
    def appear(*_):
        (tmp_path / "data").mkdir(exist_ok=True)
        if content:
            (tmp_path / "data" / "notes.txt").write_text(content)

    with pytest.raises(InputError, match="data: a directory that may not be replaced; move it away"):
        convert_texts(tmp_path, {"train": GOOD}, on_progress=appear)
    assert all_bytes(tmp_path / "data") == ({"notes.txt": b"precious"} if content else {})
    assert left_over(tmp_path) == ["data"]


def test_second_conversion_into_the_same_directory_is_refused(tmp_path):
    with faults.held_lock(tmp_path / ".data.lock"), pytest.raises(InputError, match="data: another process is writing"):
        convert_texts(tmp_path, {"train": GOOD})
    faults.leave_stale_lock(tmp_path / ".data.lock")
    convert_texts(tmp_path, {"train": GOOD})
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize("create", [lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_leftover_of_a_killed_run_is_removed(tmp_path, create):
    create(tmp_path / ".data.partial")
    if (tmp_path / ".data.partial").is_dir():
        (tmp_path / ".data.partial" / "data-train.tfrecord-00000-of-00001").write_text("half")
        (tmp_path / ".data.partial" / "folder").mkdir()
    convert_texts(tmp_path, {"train": GOOD})
    assert left_over(tmp_path) == ["data"]


def test_run_killed_between_its_two_renames_gives_the_old_data_set_back(tmp_path):
    convert_texts(tmp_path, {"train": GOOD})
    arguments = ["--split", f"train={tmp_path}/train0.csv", "--out", tmp_path / "data", "--overwrite"]
    # The first rename of `data` moves it aside.
    done = faults.run(faults.dying("os.rename", f"{tmp_path}/data", 2, "tools/csv_to_tfrecord.py", *arguments))
    assert done.killed
    assert not (tmp_path / "data").exists()
    with pytest.raises(InputError, match="--overwrite"):
        convert_texts(tmp_path, {"train": table(20)})
    assert len(read_split(tmp_path / "data", "train")[2]) == 10


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error), new_directory(tmp_path / "new" / "parents" / "data", False) as directory:
        (directory / "file").touch()
        raise error
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another --out"), new_directory(tmp_path / "file/deeper/data", False):
        pass
    assert left_over(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [SystemExit, TryAgainError])
def test_interruption_leaves_the_content_for_the_next_call(tmp_path, error):
    with pytest.raises(error), new_directory(tmp_path / "data", False) as directory:
        (directory / "file").touch()
        raise error
    assert left_over(tmp_path) == [".data.partial"]
    with new_directory(tmp_path / "data", False) as directory:
        assert [path.name for path in directory.iterdir()] == ["file"]
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_empty_path_is_the_working_directory_and_is_refused_at_once(tmp_path, monkeypatch, overwrite):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="^: (exists; choose another|has no manifest)"), new_directory("", overwrite):
        pytest.fail("the work began")
    assert left_over(tmp_path) == ["here"]


def test_disk_that_is_too_small_is_refused_and_what_is_written_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 4096))
    (tmp_path / "shard").write_bytes(bytes(4096))
    check_space("data", tmp_path, 8192)
    with pytest.raises(
        InputError, match="^data: needs 4.0 KiB, but 4.0 KiB are free; make room or choose another --out"
    ):
        check_space("data", tmp_path, 8193)
