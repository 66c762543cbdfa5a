"""Where a split is held while it is fed: decided once, from its size and the free memory, and reported in one line."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

from pipeline.errors import InputError, size_text
from pipeline.feed.order import PageOrder

FEEDS = ("auto", "host", "device", "stream")

_BYTES_PER_ROW = 4 + 8 + 2 * 4 + 2 * 8  # label, id, this epoch's order and the next one's, and what drawing that takes
_DEVICE_SHARE = 4  # a split may take a quarter of a device's memory; the rest is for the network
_BUDGET_SHARE = 2  # half of the memory that is free when a run starts
# Files of a memory control group, by its version: limit, usage, and the line of memory.stat with page cache that the
# kernel drops first. It counts as used, so a container that has read large files looks full.
_GROUP_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@dataclasses.dataclass(frozen=True)
class FeedPlan:
    """`feed` is host, device or stream; `bytes_held` what the training split takes there; `budget` in bytes.

    `shuffle` compares a streamed order with a true permutation, which the other feeds have.
    """

    feed: str
    bytes_held: int
    budget: int
    reason: str
    shuffle: str = ""

    def describe(self) -> str:
        """One line for people."""
        line = f"feed {self.feed}: {size_text(self.bytes_held)} of {size_text(self.budget)} budget; {self.reason}"
        return f"{line}; {self.shuffle}" if self.shuffle else line

    def with_order(self, pages: PageOrder, batch_size: int) -> "FeedPlan":
        """The plan of a stream in this order, with the expected quality of its shuffle."""
        rows = min(pages.window_rows, pages.num_examples)
        workers = pages.share.num_workers if pages.share else 1
        shuffle = (
            f"shuffled in windows of {rows:,} rows: {pages.expected_read_distance():.0%} of a true permutation's "
            f"read distance, a batch from {pages.expected_page_mix(batch_size):.0%} of the pages of one; the order "
            f"depends on seed, batch size, steps per call, memory budget and the number of workers ({workers})"
        )
        return dataclasses.replace(self, shuffle=shuffle)


def plan_feed(
    num_examples: int, image_bytes: int, feed: str, budget: int, device_memory: int | None, replicas: int = 1
) -> FeedPlan:
    """Choose the feed for a split of `num_examples` images of `image_bytes` bytes.

    Args:
        feed: one of FEEDS; any of them except "auto" is used if it fits.
        budget: host memory to use at most, bytes.
        device_memory: memory of one accelerator in bytes, None if replicas run on the host's processors.
        replicas: copies that the device feed keeps on this machine.

    Raises:
        InputError: the requested feed does not fit.
    """
    held = num_examples * (image_bytes + _BYTES_PER_ROW)
    if feed == "stream":
        return FeedPlan("stream", 0, budget, "as requested")
    if feed == "auto":
        if held > budget:
            return FeedPlan("stream", 0, budget, f"the data takes {size_text(held)}, over the budget")
        if device_memory and held <= device_memory // _DEVICE_SHARE:
            return FeedPlan("device", held, budget, "it fits in each accelerator, so only indices cross the bus")
        return FeedPlan("host", held, budget, "it fits in host memory")
    if feed == "device" and device_memory and held > device_memory // _DEVICE_SHARE:
        raise InputError(
            f"feed device: the data takes {size_text(held)}, over a quarter of an accelerator's "
            f"{size_text(device_memory)}; use feed host"
        )
    # Replicas on logical CPUs keep their copies in the host's memory, GPUs in their own.
    copies = replicas if feed == "device" and not device_memory else 1
    if held * copies > budget:
        raise InputError(
            f"feed {feed}: the data takes {size_text(held * copies)}, over the memory budget of {size_text(budget)}; "
            "use feed stream or raise the memory budget"
        )
    return FeedPlan(feed, held * copies, budget, "as requested")


def default_memory_budget() -> int:
    """Half of the memory that is free now, in bytes; a container's own limit counts if it is lower."""
    return free_memory() // _BUDGET_SHARE


def free_memory(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes that are free now: what the machine has, or less if a control group allows less.

    Args:
        root: where `proc` and `sys` are, for tests.
    """
    sysconf = getattr(os, "sysconf", lambda _: 1 << 16)  # Windows: 4 GiB
    free = sysconf("SC_PHYS_PAGES") * sysconf("SC_PAGE_SIZE")
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
