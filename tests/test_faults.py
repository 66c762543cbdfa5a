"""The faults themselves, each on the part of the package that must withstand it."""

import fcntl
import hashlib
import os
import sys
import time

import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.format.manifest import load_manifest
from pipeline.format.verify import inspect
from tests.helpers import faults
from tests.helpers.conversion import GOOD, PIXELS, all_bytes, convert_texts, table

SHARD = "data-train.tfrecord-00001-of-00003"


@pytest.fixture
def shards(tmp_path):
    """The directory of a data set of three shards with 10 + 10 + 10 records, and its stride."""
    convert_texts(tmp_path, {"train": table(30)}, shards=3)
    return tmp_path / "data", load_manifest(tmp_path / "data").stride


def names_found(directory):
    inspection = inspect(directory, load_manifest(directory))
    assert not inspection.metadata
    return {*inspection.shards, *inspection.extra}


DAMAGES = {
    "a flipped bit": lambda shard, stride: faults.flip_bit(shard, 3 * stride + 50, bit=7),
    "cut inside a record": lambda shard, stride: faults.cut_inside_record(shard, stride, 4),
    "cut on a boundary": lambda shard, stride: faults.cut_on_boundary(shard, stride, 9),
    "dropped": lambda shard, stride: faults.drop(shard),
    "a record twice": lambda shard, stride: faults.double_record(shard, stride, 2),
    "a record in the place of the next": lambda shard, stride: faults.double_record(shard, stride, 2, grow=False),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_shard_is_detected(shards, damage):
    directory, stride = shards
    DAMAGES[damage](directory / SHARD, stride)
    assert names_found(directory) == {SHARD}


def test_swapped_shards_are_found(shards):
    directory, _ = shards
    other = SHARD.replace("00001-", "00002-")
    before = all_bytes(directory)
    faults.swap(directory / SHARD, directory / other)
    assert names_found(directory) == {SHARD, other}
    assert all_bytes(directory) == {**before, SHARD: before[other], other: before[SHARD]}


def test_damages_change_what_they_say(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"aabbccdd")
    faults.double_record(path, 2, 1)
    assert path.read_bytes() == b"aabbbbccdd"
    faults.double_record(path, 2, 3, grow=False)
    assert path.read_bytes() == b"aabbbbcccc"
    faults.cut_inside_record(path, 2, 2)
    assert path.read_bytes() == b"aabbb"
    faults.cut_on_boundary(path, 2, 2)
    faults.flip_bit(path, -1, bit=1)
    assert path.read_bytes() == b"aab`"
    faults.cut(path, -3)
    assert path.read_bytes() == b"a"


def test_a_killed_writer_leaves_its_temporary_and_the_file_as_it_was(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("before")
    left = faults.leave_stale_temporary(path, b"ha")
    assert path.read_text() == "before"
    assert (left / path.name).read_bytes() == b"ha"
    assert left.name.startswith(".history.")


def test_a_conversion_is_refused_by_a_held_lock_and_not_by_a_stale_one(tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    lock = tmp_path / ".data.lock"
    convert_it = ["tools/csv_to_tfrecord.py", "--split", "train=train.csv", "--out", "data"]
    command = [sys.executable, faults.ROOT / convert_it[0], *convert_it[1:]]
    with faults.held_lock(lock):
        assert "another process is writing or repairing it" in faults.run(command, cwd=tmp_path).err
    faults.leave_stale_lock(lock)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert faults.run(command, cwd=tmp_path).returncode == 0


def test_a_conversion_killed_before_its_last_rename_leaves_no_data_set(tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    arguments = ["tools/csv_to_tfrecord.py", "--split", "train=train.csv", "--out", "data"]
    done = faults.run(faults.dying("os.rename", "*/data", 1, *arguments), cwd=tmp_path)
    assert done.killed
    assert not (tmp_path / "data").exists()
    assert faults.run(faults.dying("os.rename", "*/data", 2, *arguments), cwd=tmp_path).returncode == 0
    assert names_found(tmp_path / "data") == set()


def test_a_command_is_killed_when_a_file_appears_or_a_line_was_printed_or_time_is_up(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, time\n"
        "print('started', flush=True)\n"
        "for k in range(6000):\n"
        "    pathlib.Path(f'{k}.made').touch()\n"
        "    time.sleep(0.01)\n"
    )
    command = [sys.executable, program]
    by_file = faults.kill_when(command, faults.appears(tmp_path, "*.made", 3), cwd=tmp_path)
    assert by_file.killed
    assert len(list(tmp_path.glob("*.made"))) < 6000
    by_line = faults.kill_after_line(command, "start", cwd=tmp_path)
    assert (by_line.killed, by_line.out) == (True, "started\n")
    assert faults.kill_after(command, 0.0, cwd=tmp_path).killed


def test_a_command_that_was_done_before_is_not_called_killed(tmp_path):
    done = faults.kill_after_line([sys.executable, "-c", "print(1); raise SystemExit(3)"], "never")
    assert (done.killed, done.returncode, done.out) == (False, 3, "1\n")


WRITE = "import pathlib; pathlib.Path('file').write_bytes(bytes(1 << 20))"


@pytest.mark.parametrize("limited", [False, True], ids=["a disk if it may be mounted", "a limit on files"])
def test_a_disk_fills(tmp_path, limited):
    with faults.full_disk(tmp_path, 1 << 16) as disk:
        if limited:
            disk = faults.limited_files(tmp_path, 1 << 16)
        done = faults.run([sys.executable, "-c", WRITE], cwd=disk.path, **disk.options)
        assert done.returncode == 1
        assert disk.full in done.err
        assert (disk.path / "file").stat().st_size <= 1 << 16
    assert not os.path.ismount(tmp_path / "small-disk")


def test_a_full_disk_ends_a_conversion_with_one_line(tmp_path):
    (tmp_path / "train.csv").write_text(table(4000))
    tool = faults.ROOT / "tools/csv_to_tfrecord.py"
    with faults.full_disk(tmp_path, 1 << 16) as disk:
        command = [sys.executable, tool, "--split", f"train={tmp_path / 'train.csv'}", "--out", "data", "--shards", "1"]
        done = faults.run(command, cwd=disk.path, **disk.options)
        assert (done.returncode, done.err.count("\n")) == (2, 1), done.err
        assert not (disk.path / "data").exists()


def test_slow_reads_change_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text(GOOD)
    for out in ("quick", "slow"):
        if out == "slow":
            faults.slow_reads(monkeypatch, "*/a.csv", 0.05)
        started = time.monotonic()
        convert(ConvertConfig(splits=(("train", tmp_path / "a.csv"),), out=tmp_path / out, shards=1))
    assert time.monotonic() - started >= 0.1
    shards = [next((tmp_path / out).glob("*.tfrecord*")).read_bytes() for out in ("quick", "slow")]
    assert shards[0] == shards[1]


def test_something_happens_at_a_chosen_read(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text(f"label,{PIXELS}\n1,2,3,4,5\n")
    seen = []
    faults.on_read(monkeypatch, "*/a.csv", seen.append)
    with path.open("rb") as file:
        assert file.read(5) == b"label"
        assert hashlib.sha256(file.read()).hexdigest() == hashlib.sha256(path.read_text()[5:].encode()).hexdigest()
    assert seen == [0, 1]
