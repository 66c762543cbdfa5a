"""The converter as a process: killed, stopped, run twice at once, and on a disk that fills."""

import contextlib
import errno
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import faults
from tests.helpers.conversion import all_bytes, left_over

SCRIPT = pathlib.Path(__file__).with_name("convert_in_small_steps.py")
LOCK, PARTIAL = ".data.csv_to_tfrecord-lock", ".data.csv_to_tfrecord-partial"


def _csv(rows):
    """Images of 14 x 14, whose labels have gaps, so that there are two passes."""
    pixels, line = ",".join(f"p{k}" for k in range(196)), ",".join(["0,128,255,7"] * 49)
    return f"id,label,{pixels}\n" + "".join(f"{3 * k},{k % 7 * 2},{line}\n" for k in range(rows))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a CSV of 2.2 MB; the bytes of an unbroken conversion of it, and the seconds that this took."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "train.csv").write_text(_csv(4000))
    started = time.perf_counter()
    done = faults.run([sys.executable, SCRIPT, *arguments(folder)])
    assert (done.returncode, done.err) == (0, "")
    return folder, all_bytes(folder / "data"), time.perf_counter() - started


@pytest.fixture
def folder(tmp_path, whole):
    shutil.copy(whole[0] / "train.csv", tmp_path)
    return tmp_path


def arguments(folder, out=None):
    return [f"--split=train={folder}/train.csv", "--val-fraction=0.1", "--shards=2", "--out", out or folder / "data"]


def convert(folder, out=None, **options):
    return faults.run([sys.executable, SCRIPT, *arguments(folder, out)], **options)


def check_that_it_ends_as(folder, whole):
    """Convert again if need be; the notice of that, which is a line at most."""
    if not (folder / "data").exists():
        done = convert(folder)
        assert done.returncode == 0, done.err
        assert done.err.count("\n") <= 1
    else:
        done = None
        (folder / LOCK).unlink(missing_ok=True)  # what a kill after the last rename leaves, which is in nobody's way
    assert all_bytes(folder / "data") == whole[1]
    assert left_over(folder) == ["data"]
    return done.err if done else ""


def test_killed_at_random_instants_it_ends_with_the_bytes_of_an_unbroken_run(folder, whole):
    instants = random.Random(0)
    for _ in range(5):
        shutil.rmtree(folder / "data", ignore_errors=True)
        with faults.WatchedCommand([sys.executable, SCRIPT, *arguments(folder)]) as process:
            process.wait_until(faults.appears(folder, f"{PARTIAL}/*"))
            until = process.seconds + instants.uniform(0, whole[2] / 2)
            process.wait_until(lambda until=until, process=process: process.seconds >= until)
        check_that_it_ends_as(folder, whole)


MARKS = {
    "the first journal is written": ("os.rename", "*journal.json", 1),
    "the third journal is written": ("os.rename", "*journal.json", 3),
    "the first pass's shards are removed": ("os.remove", "*.part", 1),
    "more of them are removed": ("os.remove", "*.part", 3),
    "the first shard gets its name": ("os.rename", "*.tfrecord-*", 1),
    "the last shard gets its name": ("os.rename", "*.tfrecord-*", 4),
    "the manifest is written": ("open", "*/manifest.json", 1),
    "the journal is removed": ("os.remove", "*/journal.json", 1),
    "the directory gets its name": ("os.rename", "*-partial", 1),
}
WITHOUT_A_JOURNAL = ("the first journal is written", "the directory gets its name")


@pytest.mark.parametrize("mark", MARKS)
def test_killed_at_a_marked_point_it_goes_on_from_the_journal(folder, whole, mark):
    assert faults.run(faults.dying(*MARKS[mark], SCRIPT, *arguments(folder))).killed
    assert left_over(folder) == [LOCK, PARTIAL]
    notice = check_that_it_ends_as(folder, whole)
    expected = "starting anew, because it had not" if mark in WITHOUT_A_JOURNAL else "going on after "
    assert f"a conversion into {folder}/data was killed; {expected}" in notice


def test_killed_again_while_it_goes_on(folder, whole):
    assert faults.run(faults.dying("os.rename", "*journal.json", 3, SCRIPT, *arguments(folder))).killed
    for event, pattern, number in (("os.truncate", "*-00001.part", 1), ("os.rename", "*journal.json", 2)):
        assert faults.run(faults.dying(event, pattern, number, SCRIPT, *arguments(folder))).killed
    assert "going on after " in check_that_it_ends_as(folder, whole)


@pytest.mark.parametrize(("number", "code", "left"), [(signal.SIGTERM, 143, [PARTIAL]), (signal.SIGINT, 130, [])])
def test_sigterm_keeps_what_a_journal_makes_of_use_and_ctrl_c_does_not(folder, whole, number, code, left):
    with _started(folder, f"{PARTIAL}/journal.json") as process:
        process.send_signal(number)
        process.communicate()
    assert process.returncode == code
    assert left_over(folder) == left
    check_that_it_ends_as(folder, whole)


def test_of_two_conversions_into_one_target_the_second_is_refused(folder, whole):
    with _started(folder, f"{PARTIAL}/*.part") as first:
        first.send_signal(signal.SIGSTOP)  # so that it cannot end before the other one has seen it
        try:
            second = convert(folder)
        finally:
            first.send_signal(signal.SIGCONT)
        first.communicate()
    assert (first.returncode, second.returncode) == (0, 2)
    assert second.err == (
        f"error: {folder}/data: another conversion is writing it; wait for it or choose another --out\n"
    )
    assert all_bytes(folder / "data") == whole[1]
    assert left_over(folder) == ["data"]


def _started(folder, pattern):
    """A process that has come so far that a path matches."""
    command = [sys.executable, SCRIPT, *arguments(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not faults.appears(folder, pattern)():
        time.sleep(0.001)
    return process


def test_a_limit_on_the_size_of_files_is_one_line_and_nothing_is_left(folder):
    disk = faults.limited_files(folder, 200_000)
    done = convert(folder, **disk.options)
    assert done.returncode == 2
    assert done.err.startswith(f"error: {folder}/data: {disk.full}, with ")
    assert " more are needed and " in done.err
    assert done.err.count("\n") == 1
    assert left_over(folder) == []


def test_a_disk_that_is_surely_too_small_is_refused_before_anything_is_written(folder):
    with _tmpfs(folder, 400_000) as disk:
        done = convert(folder, disk.path / "data")
        assert (done.returncode, list(disk.path.iterdir())) == (2, [])
    assert done.err.startswith(f"error: {disk.path}/data: about 1.1 MB are needed, at least ")
    assert done.err.endswith("are free; make room or choose another --out\n")


def test_a_disk_that_fills_is_one_line_and_nothing_is_left(folder):
    with _tmpfs(folder, 1_000_000) as disk:  # between what the lines could take at the least, and what they do take
        done = convert(folder, disk.path / "data")
        assert (done.returncode, list(disk.path.iterdir())) == (2, [])
    assert done.err.startswith(f"error: {disk.path}/data: {disk.full}, with ")
    assert done.err.endswith(" free; make room or choose another --out\n")
    assert " more are needed and " in done.err
    assert done.err.count("\n") == 1


def test_a_disk_that_is_just_large_enough_is_used(folder, whole):
    size = sum(map(len, whole[1].values()))
    with _tmpfs(folder, size + 100_000) as disk:  # files take whole pages of memory there, and the journal comes on top
        done = convert(folder, disk.path / "data")
        assert done.returncode == 0, done.err
        assert all_bytes(disk.path / "data") == whole[1]


@contextlib.contextmanager
def _tmpfs(folder, size):
    with faults.full_disk(folder, size) as disk:
        if disk.full != os.strerror(errno.ENOSPC):
            pytest.skip("no file system can be mounted here")
        yield disk
