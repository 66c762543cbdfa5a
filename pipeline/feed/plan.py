"""Where a split is held while it is fed: decided once, by arithmetic, and reported in one line."""

import dataclasses

from pipeline.errors import InputError, size_text
from pipeline.feed.free_memory import free_memory
from pipeline.feed.order import PageOrder

FEEDS = ("auto", "host", "device", "stream")

_BYTES_PER_ROW = 4 + 8 + 2 * 4 + 2 * 8  # label, id, this epoch's order and the next one's, and what drawing that takes
_DEVICE_SHARE = 4  # a split may take this part of a device's memory; the rest is the network's
_BUDGET_SHARE = 2  # of the memory that is free when a run starts


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
        shuffle = (
            f"shuffled in windows of {rows:,} rows: {pages.expected_read_distance():.0%} of a true permutation's "
            f"read distance, a batch from {pages.expected_page_mix(batch_size):.0%} of the pages of one"
        )
        return dataclasses.replace(self, shuffle=shuffle)


def plan_feed(
    num_examples: int, image_bytes: int, feed: str, budget: int, device_memory: int | None, replicas: int = 1
) -> FeedPlan:
    """Choose the feed for a split of `num_examples` images of `image_bytes` bytes.

    Args:
        feed: one of FEEDS; anything but "auto" is taken if it fits.
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
