"""The faults themselves, each on the part of the package that must withstand it."""

import os
import signal
import sys

import pytest

from tests.helpers import faults
from tests.helpers.commands import WatchedCommand


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


def test_a_command_is_killed_when_a_file_appears(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, time\nfor k in range(6000):\n    pathlib.Path(f'{k}.made').touch()\n    time.sleep(0.01)\n"
    )
    command = [sys.executable, program]
    by_file = faults.kill_when(command, faults.appears(tmp_path, "*.made", 3), cwd=tmp_path)
    assert by_file.killed
    assert len(list(tmp_path.glob("*.made"))) < 6000


def test_a_kill_reaches_what_the_command_started(tmp_path):
    child = "import pathlib, time; time.sleep(2); pathlib.Path('alive').touch()"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); print(1, flush=True)"
    with WatchedCommand([sys.executable, "-c", code + "; time.sleep(60)"], cwd=tmp_path) as command:
        command.wait_until(lambda: command.lines)
    # Reading its output ended, so no process holds the other end any more.
    assert command.killed
    assert list(tmp_path.iterdir()) == []


def test_a_command_reports_its_exit_code_and_signal():
    with WatchedCommand([sys.executable, "-c", "raise SystemExit('no')"]) as command:
        assert (command.wait(), command.err, command.killed) == (1, "no\n", False)
    with WatchedCommand([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]) as command:
        assert command.wait_until(lambda: command.out)
        command.send(signal.SIGTERM)
        assert command.wait() == -signal.SIGTERM


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
