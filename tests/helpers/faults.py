"""Injected faults. Test a new feature with them:

What it reads is corrupt (a shard is its path and the stride of its records):

    faults.flip_bit(shard, byte=1000)  # or cut_inside_record, cut_on_boundary, drop, swap, double_record
    with pytest.raises(InputError, match="record 3"):
        load_split(...)

It is killed: what it leaves, and whether the same command resumes. The process dies by SIGKILL just
before it does something, named by Python's audit event (`os.rename`, `open`, `os.mkdir`, ...) and the path:

    done = faults.run(faults.dying("os.rename", "*/checkpoint-*", 2, "train.py", "--data", data), cwd=tmp_path)
    assert done.killed  # also: done.returncode, done.out, done.err

or when something is seen from outside:

    faults.kill_when([sys.executable, "train.py", ...], faults.appears(run_dir, "checkpoints/*.npz"))

A process was killed before it: `leave_stale_temporary(path)`, `leave_stale_lock(path)`; the disk is full:
`with faults.full_disk(tmp_path, 1 << 20) as disk: faults.run(command, cwd=disk.path, **disk.options)`.
"""

import contextlib
import dataclasses
import errno
import fcntl
import fnmatch
import itertools
import os
import pathlib
import resource
import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator

from tests.helpers.commands import WatchedCommand

ROOT = pathlib.Path(__file__).resolve().parents[2]


# ---- corruption ------------------------------------------------------------------------------------------------------


def flip_bit(path: pathlib.Path, byte: int, bit: int = 0) -> None:
    """Change one bit of a file; a negative `byte` counts from its end."""
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def cut(path: pathlib.Path, size: int) -> None:
    """Keep the first `size` bytes of a file; a negative size omits as many at the end."""
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def cut_inside_record(shard: pathlib.Path, stride: int, record: int) -> None:
    """End a shard in the middle of a record (from 0)."""
    cut(shard, record * stride + stride // 2)


def cut_on_boundary(shard: pathlib.Path, stride: int, records: int) -> None:
    """Keep the first `records` records, so that every reader of the format takes the shard as complete."""
    cut(shard, records * stride)


def drop(path: pathlib.Path) -> None:
    """Remove a file."""
    path.unlink()


def swap(first: pathlib.Path, second: pathlib.Path) -> None:
    """Give two files each other's name."""
    aside = first.with_name(first.name + ".aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def double_record(shard: pathlib.Path, stride: int, record: int, grow: bool = True) -> None:
    """Let a shard hold a record (from 0) twice: one record longer, or else in the place of the one after it."""
    data = shard.read_bytes()
    after = (record + 1) * stride
    rest = data[after if grow else after + stride :]
    shard.write_bytes(data[:after] + data[record * stride : after] + rest)


# ---- what a killed process left --------------------------------------------------------------------------------------


def leave_stale_temporary(path: pathlib.Path, data: bytes = b"half") -> pathlib.Path:
    """Kill a process that writes `path` by `pipeline.files.replacing`; returns the hidden directory that it leaves."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from pipeline.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(bytes.fromhex(sys.argv[2]))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = set(path.parent.iterdir())
    done = run([sys.executable, "-c", code, str(path), data.hex()], cwd=ROOT)
    assert done.killed, done.err
    (left,) = set(path.parent.iterdir()) - before
    return left


def leave_stale_lock(path: pathlib.Path) -> None:
    """Kill a process that holds flock(2) on `path`: the file stays, the lock ends with the process."""
    code = (
        "import fcntl, os, signal, sys\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run([sys.executable, "-c", code, str(path)])
    assert done.killed, done.err


@contextlib.contextmanager
def held_lock(path: pathlib.Path) -> Iterator[None]:
    """Within the block another open file of a living process holds flock(2) on `path`."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- commands that die -----------------------------------------------------------------------------------------------


def run(command: list, **options) -> WatchedCommand:
    """Run a command to its end, whatever that is."""
    with WatchedCommand(command, **options) as process:
        process.wait()
    return process


def dying(event: str, pattern: str, nth: int, script: str | pathlib.Path, *arguments) -> list[str]:
    """A command: run `script` (relative to the project), and die by SIGKILL just before the nth such audit event.

    Args:
        event: of https://docs.python.org/3/library/audit_events.html; `os.rename` is raised by Path.replace too.
        pattern: of fnmatch; one of the event's arguments (a path, usually) must match it.
    """
    # An installed package brings no tests, so the project's root goes on the path.
    run = "from tests.helpers.faults import run_dying; run_dying(*sys.argv[1:])"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {run}"
    return [sys.executable, "-c", code, event, pattern, str(nth), str(ROOT / script), *map(str, arguments)]


def kill_when(command: list, seen: Callable[[], bool], **options) -> WatchedCommand:
    """Kill a command, and all that it started, as soon as `seen()` is true; it is called every 2 ms."""
    with WatchedCommand(command, **options) as process:
        process.wait_until(seen)
    return process


def appears(folder: pathlib.Path, pattern: str, count: int = 1) -> Callable[[], bool]:
    """For `kill_when`: whether at least `count` paths below `folder` match a glob pattern."""
    return lambda: len(list(itertools.islice(folder.glob(pattern), count))) == count


def _die_at(event: str, pattern: str, nth: int) -> None:
    """Let this process die by SIGKILL just before the nth audit event with such an argument."""
    left = itertools.count(nth - 1, -1)

    def hook(name: str, arguments: tuple) -> None:
        if name != event:
            return
        texts = (os.fsdecode(value) for value in arguments if isinstance(value, (str, bytes, os.PathLike)))
        if any(fnmatch.fnmatchcase(text, pattern) for text in texts) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


# ---- disks -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Disk:
    """A place of limited size; commands that write there are started with `options`. `full` is the system's message."""

    path: pathlib.Path
    options: dict
    full: str


@contextlib.contextmanager
def full_disk(folder: pathlib.Path, size: int) -> Iterator[Disk]:
    """A file system of `size` bytes in `folder`, or, if mounting is not allowed, a limit on the size of any file."""
    path = folder / "small-disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small-disk", str(path)]
    if shutil.which("mount") is None or run(mount).returncode != 0:
        yield limited_files(path, size)
        return
    try:
        yield Disk(path, {}, os.strerror(errno.ENOSPC))
    finally:
        run(["umount", "--lazy", str(path)])


def limited_files(path: pathlib.Path, size: int) -> Disk:
    """A place where a command started with `options` can write no file of more than `size` bytes (RLIMIT_FSIZE)."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return Disk(path, {"preexec_fn": limit}, os.strerror(errno.EFBIG))


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Within the block this process can write no file of more than `size` bytes.

    It is not a fixture, because pytest writes its progress before a fixture ends, and that may go to a longer file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run_dying(event: str, pattern: str, nth: str, script: str, *arguments: str) -> None:
    """What the command of `dying` does."""
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(pathlib.Path(script).parent))
    _die_at(event, pattern, int(nth))
    runpy.run_path(script, run_name="__main__")
