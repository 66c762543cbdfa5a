"""The converter as a process: killed, stopped, run twice at once, and on a disk that fills."""

import contextlib
import errno
import os
import pathlib
import random
import shutil
import signal
import sys
import time

import pytest

from pipeline import files
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, left_over

SCRIPT = pathlib.Path(__file__).with_name("helpers") / "convert_in_small_blocks.py"
LOCK, PARTIAL = ".data.lock", ".data.partial"
SHARDS = 8
MODES = pytest.mark.parametrize("mode", [{}, {"PROCESSES": "1"}], ids=["threads", "processes"])


def write_csv(path):
    """2.2 MB: images of 14 x 14, whose labels have gaps, with ids."""
    pixels, line = ",".join(f"p{k}" for k in range(196)), ",".join(["0,128,255,7"] * 49)
    path.write_text(f"id,label,{pixels}\n" + "".join(f"{3 * k},{k % 7 * 2},{line}\n" for k in range(4000)))


def arguments(folder, out=None):
    source = f"--split=train={folder}/train.csv"
    return [source, "--val-fraction=0.1", f"--shards={SHARDS}", "--out", out or folder / "data"]


def command(folder, out=None):
    return [sys.executable, SCRIPT, *arguments(folder, out)]


def start(folder, mode, out=None):
    return faults.WatchedCommand(command(folder, out), env={**os.environ, **mode})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a CSV; the bytes of an uninterrupted conversion of it, and the seconds that this took."""
    folder = tmp_path_factory.mktemp("whole")
    write_csv(folder / "train.csv")
    started = time.perf_counter()
    done = faults.run(command(folder))
    assert (done.returncode, done.err) == (0, "")
    return folder, all_bytes(folder / "data"), time.perf_counter() - started


@pytest.fixture
def folder(tmp_path, whole):
    shutil.copy(whole[0] / "train.csv", tmp_path)
    return tmp_path


def finish(folder, whole, mode=None):
    """Convert again if needed, and compare; the notices."""
    notices = ""
    if not (folder / "data").exists():
        done = faults.run(command(folder), env={**os.environ, **(mode or {})})
        assert done.returncode == 0, done.err
        notices = done.err
        assert notices.count("\n") <= 1
    # What a kill after the last rename leaves, which hinders no one; the next conversion there removes the directory.
    (folder / LOCK).unlink(missing_ok=True)
    files.remove_stale(folder)
    assert all_bytes(folder / "data") == whole[1]
    assert left_over(folder) == ["data"]
    return notices


@MODES
def test_killed_at_random_instants_it_ends_with_the_same_bytes(folder, whole, mode):
    instants = random.Random(0)
    for _ in range(3):
        shutil.rmtree(folder / "data", ignore_errors=True)
        with start(folder, mode) as process:
            process.wait_until(faults.appears(folder, f"{PARTIAL}/*"))
            until = process.seconds + instants.uniform(0, whole[2] / 3)
            process.wait_until(lambda until=until, process=process: process.seconds >= until)
        finish(folder, whole, mode)


MARKS = {  # and how many tasks are done
    "the second shard is created": ("open", "*/.data-val.tfrecord-*", 1, None),
    "the first result is written": ("open", "*/task-00000.json", 1, None),
    "the second result is written": ("open", "*/task-00001.json", 1, 1),
    "the last shard is created": ("open", "*/.data-val.tfrecord-00007-*", 1, 7),
    "the metadata are written": ("open", "*/features.json", 1, 8),
    "the manifest is written": ("open", "*/manifest.json", 1, 8),
    "the first result is removed": ("os.remove", "*/task-00000.json", 1, 8),
    "more of them are removed": ("os.remove", "*/task-00003.json", 1, 5),
    "the last result is removed": ("os.remove", "*/task-00007.json", 1, 1),
    "the directory gets its name": ("os.rename", "*/.data.partial", 1, None),
}


@pytest.mark.parametrize("mark", MARKS)
def test_killed_at_a_marked_point_it_resumes(folder, whole, mark):
    *event, num_done = MARKS[mark]
    assert faults.run(faults.dying(*event, SCRIPT, *arguments(folder))).killed
    assert PARTIAL in left_over(folder)
    notices = finish(folder, whole)
    expected = f"resuming an interrupted conversion of {folder}/data: {num_done} of {SHARDS} tasks done"
    assert notices == (f"{expected}\n" if num_done else f"restarting {folder}/data\n")


def test_killed_again_while_it_resumes(folder, whole):
    for name in ("task-00003.json", "task-00005.json", "manifest.json"):
        assert faults.run(faults.dying("open", f"*/{name}", 1, SCRIPT, *arguments(folder))).killed
    assert f": {SHARDS} of {SHARDS} tasks done" in finish(folder, whole)


@MODES
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_sigterm_keeps_finished_tasks_and_ctrl_c_does_not(folder, whole, mode, number, code):
    with start(folder, mode) as process:
        assert process.wait_until(faults.appears(folder, f"{PARTIAL}/task-*.json", 2))
        process.send(number)
        assert process.wait() == code
    answered = "stopping the conversion, which leaves nothing; Ctrl-C again" in process.err
    assert answered == (number == signal.SIGINT)
    assert left_over(folder) == ([PARTIAL] if number == signal.SIGTERM else [])
    notices = finish(folder, whole, mode)
    assert ("tasks done" in notices) == (number == signal.SIGTERM)


def worker_pids(parent):
    """Process ids of the worker processes of a command."""
    pids = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ppid = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if int(ppid) == parent and b"spawn_main" in (path / "cmdline").read_bytes():
                pids.append(int(path.name))
    return pids


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="finds worker processes in /proc")
def test_killed_worker_is_one_line_with_code_75_and_its_conversion_resumes(folder, whole):
    with start(folder, {"PROCESSES": "1"}) as process:
        assert process.wait_until(faults.appears(folder, f"{PARTIAL}/task-*.json"))
        os.kill(worker_pids(process._process.pid)[0], signal.SIGKILL)
        assert process.wait() == 75
    assert process.err == (
        "error: a worker process was killed, perhaps for its memory; rerun the command to resume, with fewer workers\n"
    )
    assert left_over(folder) == [PARTIAL]
    assert "tasks done" in finish(folder, whole)


def test_second_conversion_into_one_directory_is_refused(folder, whole):
    with start(folder, {}) as first:
        assert first.wait_until(faults.appears(folder, f"{PARTIAL}/*.tfrecord-*"))
        first.send(signal.SIGSTOP)  # so that it cannot end before the other one has seen it
        try:
            second = faults.run(command(folder))
        finally:
            first.send(signal.SIGCONT)
        assert first.wait() == 0
    assert second.returncode == 2
    assert second.err == f"error: {folder}/data: another process is writing or repairing it; wait for it\n"
    assert all_bytes(folder / "data") == whole[1]
    assert left_over(folder) == ["data"]


@MODES
def test_limit_on_the_size_of_files_is_one_line_and_leaves_nothing(folder, mode):
    disk = faults.limited_files(folder, 80_000)
    done = faults.run(command(folder), env={**os.environ, **mode}, **disk.options)
    assert done.returncode == 2
    assert done.err.startswith(f"error: {folder}/data: {disk.full}; it takes more than ")
    assert done.err.endswith(" are free there; make room and try again\n")
    assert done.err.count("\n") == 1
    assert left_over(folder) == []


def test_disk_that_is_too_small_is_refused_before_a_shard_is_written(folder):
    with _tmpfs(folder, 700_000) as disk:
        done = faults.run(command(folder, disk.path / "data"))
        assert (done.returncode, list(disk.path.iterdir())) == (2, [])
    assert done.err.startswith(f"error: {disk.path}/data: needs 1.1 MiB, but 6")
    assert done.err.endswith(" KiB are free; make room or choose another --out\n")


@MODES
def test_disk_that_fills_is_one_line_and_leaves_nothing(folder, whole, mode):
    size = sum(map(len, whole[1].values()))
    with _tmpfs(folder, size + 100_000) as disk, start(folder, mode, disk.path / "data") as process:
        assert process.wait_until(faults.appears(disk.path, f"{PARTIAL}/*.tfrecord-*"))
        os.killpg(process._process.pid, signal.SIGSTOP)  # so that it cannot end before the disk is full
        (disk.path / "other").write_bytes(bytes(120_000))
        os.killpg(process._process.pid, signal.SIGCONT)
        assert process.wait() == 2
        assert left_over(disk.path) == ["other"]
    assert process.err.startswith(f"error: {disk.path}/data: {disk.full}; it takes more than ")
    assert process.err.count("\n") == 1


def test_disk_that_is_just_large_enough_is_used(folder, whole):
    size = sum(map(len, whole[1].values()))
    with _tmpfs(folder, size + 150_000) as disk:  # files take whole pages of memory there
        done = faults.run(command(folder, disk.path / "data"))
        assert done.returncode == 0, done.err
        assert all_bytes(disk.path / "data") == whole[1]


@contextlib.contextmanager
def _tmpfs(folder, size):
    with faults.full_disk(folder, size) as disk:
        if disk.full != os.strerror(errno.ENOSPC):
            pytest.skip("no file system can be mounted here")
        yield disk
