"""The machine: processor, memory, disk, limits and environment. Nothing here imports TensorFlow."""

import contextlib
import fcntl
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Mapping

from pipeline.doctor.findings import MEND, NOTE, OK, Finding
from pipeline.feed.plan import default_memory_budget
from pipeline.train.environment import processor_flags, processor_name

GROUP = "Machine"
_MIN_MEMORY = 2 << 30  # TensorFlow alone takes half a gigabyte
_MIN_DISK = 1 << 30
_MIN_FILES = 256  # shards are read by a few threads at once
_DISK_BYTES = 32 << 20
_SLOW_DISK = 20e6  # bytes/s; a checkpoint of the article's network is 11 MB


def check_machine(folders: Mapping[str, pathlib.Path], environment: Mapping[str, str]) -> list[Finding]:
    """All checks; `folders` are those to be written, by what they are called."""
    return [
        check_processor(),
        check_memory(2 * default_memory_budget()),
        check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        *(check_folder(name, path) for name, path in folders.items()),
        *check_environment(environment),
    ]


def check_processor() -> Finding:
    """Its model and what of it this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16")
    flags = [flag for flag in known if flag in processor_flags()]
    return Finding(GROUP, "processor", OK, f"{processor_name()}, {cores} core(s), {' '.join(flags)}")


def check_memory(free: int) -> Finding:
    """Whether `free` bytes are enough to train."""
    seen = f"{free / 2**30:,.1f} GiB free"
    if free < _MIN_MEMORY:
        return Finding(GROUP, "memory", MEND, seen, f"free some: training needs about {_MIN_MEMORY >> 30} GiB")
    return Finding(GROUP, "memory", OK, seen)


def check_open_files(limit: int) -> Finding:
    """Whether a process may have enough files open."""
    if limit != resource.RLIM_INFINITY and limit < _MIN_FILES:
        return Finding(GROUP, "open files", MEND, f"{limit} at once", f"ulimit -n {4 * _MIN_FILES}")
    return Finding(GROUP, "open files", OK, "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} at once")


def check_folder(name: str, path: pathlib.Path) -> Finding:
    """Whether a folder, or where it would be made, can be written, locked and renamed in, how fast, and its room."""
    name = f"{name} ({path})"
    place = next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as folder:
            written, read = _measure_disk(pathlib.Path(folder))
            remark = _try_lock(pathlib.Path(folder))
    except OSError as error:
        return Finding(
            GROUP,
            name,
            MEND,
            f"{place}: {error.strerror}",
            f"let this user write in {place}, make room, or choose another",
        )
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    seen = f"{free / 2**30:,.1f} GiB free, writes {written / 1e6:,.0f} MB/s, reads {read / 1e6:,.0f} MB/s{remark}"
    if free < _MIN_DISK:
        return Finding(GROUP, name, MEND, seen, f"make room: at least {_MIN_DISK >> 30} GiB, for data and checkpoints")
    if written < _SLOW_DISK:
        seen += "; slow: write few checkpoints (--checkpoint-every)"
    return Finding(GROUP, name, NOTE if remark or written < _SLOW_DISK else OK, seen)


def check_environment(environment: Mapping[str, str]) -> list[Finding]:
    """Variables that change what the package does, or break it."""
    found = []
    backend = environment.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        found.append(_variable("KERAS_BACKEND", MEND, f"is {backend!r}", "unset KERAS_BACKEND: only TensorFlow trains"))
    if environment.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        found.append(_variable("TF_ENABLE_ONEDNN_OPTS", NOTE, "is 0, so convolutions on the processor are slower"))
    hidden = environment.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        found.append(_variable("CUDA_VISIBLE_DEVICES", NOTE, f"is {hidden!r}, so other GPUs are not seen"))
    return found


def _variable(name: str, state: str, seen: str, mend: str = "") -> Finding:
    return Finding(GROUP, f"environment: {name}", state, seen, mend)


def _measure_disk(folder: pathlib.Path) -> tuple[float, float]:
    """Bytes/s of writing a file to the disk, and of reading it back from there."""
    path, data = folder / "probe", os.urandom(_DISK_BYTES)
    started = time.perf_counter()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    written = _DISK_BYTES / (time.perf_counter() - started)
    path.rename(folder / "renamed")
    with (folder / "renamed").open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):  # or it would be read from memory
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        while file.read(1 << 20):
            pass
    return written, _DISK_BYTES / (time.perf_counter() - started)


def _try_lock(folder: pathlib.Path) -> str:
    """A remark where the file system knows no locks, which keep a second run out of a directory."""
    with (folder / "lock").open("w") as file, contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return ""
    return "; it knows no locks, so start no second run in one directory"
