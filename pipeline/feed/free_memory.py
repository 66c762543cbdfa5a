"""Memory that this process may still take: the machine's, or that of its control groups, such as a container's."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

# Files of a memory control group, by its version: limit, usage, and the line of memory.stat with page cache that the
# kernel drops first. It counts as used, so a container that has read large files looks full.
_GROUP_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes that are free now: what the machine has, or less if a control group allows less.

    Args:
        root: where `proc` and `sys` are, for tests.
    """
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, KeyError, ValueError):  # not Linux: total memory stands in
        free = _table(root / "proc/meminfo")["MemAvailable:"] * 1024
    return min([free, *(max(limit - used, 0) for limit, used in _control_groups(root))])


def _control_groups(root: pathlib.Path) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of this process's memory control group and of all above it that have a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        version, mount = (1, "sys/fs/cgroup/memory") if controllers else (2, "sys/fs/cgroup")
        # Inside a container the path may be the host's, which does not exist here; the mount then is the container's.
        names = [name for name in path.split("/") if name not in ("", "..")]
        for depth in range(len(names) + 1):
            try:
                yield _limit_and_use(root.joinpath(mount, *names[:depth]), *_GROUP_FILES[version])
            except (OSError, KeyError, ValueError):
                continue  # no such group, or no limit in it ("max")


def _limit_and_use(group: pathlib.Path, limit: str, usage: str, cache: str) -> tuple[int, int]:
    used = int((group / usage).read_text(encoding="ascii")) - _table(group / "memory.stat")[cache]
    return int((group / limit).read_text(encoding="ascii")), used


def _table(path: pathlib.Path) -> dict[str, int]:
    """The numbers of a file with a name and a number per line."""
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}
