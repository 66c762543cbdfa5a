import errno
import fcntl
import os

import pytest
from pipeline.convert.shard_writer import SplitWriter

from pipeline.errors import InputError
from tests.helpers.conversion import GOOD, all_bytes, convert_texts, left_over, read_split, table


def test_what_exists_is_refused_and_stays_as_it_was(tmp_path):
    convert_texts(tmp_path, {"train": GOOD})
    before = all_bytes(tmp_path / "data")
    with pytest.raises(InputError, match="--overwrite"):
        convert_texts(tmp_path, {"train": table(20)})
    assert all_bytes(tmp_path / "data") == before


def test_overwrite_replaces_a_data_set_once_the_new_one_is_complete(tmp_path):
    convert_texts(tmp_path, {"train": GOOD}, shards=8)
    with pytest.raises(InputError, match="256"):
        convert_texts(tmp_path, {"train": GOOD + "1,2,3,4,256\n"}, overwrite=True)
    assert len(read_split(tmp_path / "data", "train")[2]) == 10
    convert_texts(tmp_path, {"train": table(20)}, overwrite=True, shards=2)
    assert len(read_split(tmp_path / "data", "train")[2]) == 20
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [("manifest.json", "cannot be read, so it may not be ours; move it away"), ("notes.txt", "no data set of ours")],
)
def test_overwrite_does_not_touch_what_is_no_data_set(tmp_path, name, fragment):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("precious")
    with pytest.raises(InputError, match=fragment):
        convert_texts(tmp_path, {"train": GOOD}, overwrite=True)
    assert (tmp_path / "data" / name).read_text() == "precious"


def test_overwrite_does_not_touch_a_data_set_that_holds_other_files_too(tmp_path):
    convert_texts(tmp_path, {"train": GOOD})
    (tmp_path / "data" / "my_notes.txt").write_text("precious")
    with pytest.raises(InputError, match="my_notes.txt"):
        convert_texts(tmp_path, {"train": GOOD}, overwrite=True)


def test_a_second_conversion_into_the_same_target_is_refused(tmp_path):
    with (tmp_path / ".data.csv_to_tfrecord-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another conversion"):
            convert_texts(tmp_path, {"train": GOOD})
    convert_texts(tmp_path, {"train": GOOD})
    assert left_over(tmp_path) == ["data"]


def test_what_a_killed_run_left_is_cleaned_up(tmp_path):
    (tmp_path / ".data.csv_to_tfrecord-partial").mkdir()
    (tmp_path / ".data.csv_to_tfrecord-partial" / "train-00000.part").write_text("half")
    convert_texts(tmp_path, {"train": GOOD})
    assert left_over(tmp_path) == ["data"]


def test_a_run_killed_between_its_two_renames_gives_the_old_data_set_back(tmp_path):
    convert_texts(tmp_path, {"train": GOOD})
    (tmp_path / "data").rename(tmp_path / ".data.csv_to_tfrecord-old")
    with pytest.raises(InputError, match="--overwrite"):
        convert_texts(tmp_path, {"train": table(20)})
    assert len(read_split(tmp_path / "data", "train")[2]) == 10
    assert left_over(tmp_path) == ["data"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data")

    monkeypatch.setattr(SplitWriter, "_write", full)
    with pytest.raises(InputError, match="No space left on device, with 0 B written; about .* free; make room"):
        convert_texts(tmp_path, {"train": GOOD})
    assert left_over(tmp_path) == []
