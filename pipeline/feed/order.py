"""Order is arithmetic: which examples are in step s of an epoch follows from (seed, epoch, s) alone.

So a shuffle needs no buffer, is the same for 1 and for 8 replicas, and resuming means starting at step s. A stream is
also dealt to workers by arithmetic, so its order depends on their number too. All functions here are pure NumPy over
ints. Random numbers are Philox with the key (seed, epoch, purpose), a counter-based generator
(Salmon et al., SC 2011) whose streams for different keys are independent.
"""

import dataclasses
import hashlib

import numpy as np

PADDING = -1  # index of a place in a batch that holds no example

# An order beyond this leaves the cache, and a shuffle all over it was measured at four times the cost per row: 43 ns
# for 6 million rows against 11 for 60 thousand, and 27 in parts.
_SHUFFLED_AT_ONCE = 1 << 20
_PARTS = 256

_EPOCH_ORDER, _PAGE_ORDER, _WINDOW_ORDER = range(3)


@dataclasses.dataclass(frozen=True)
class Steps:
    """How an epoch of `num_examples` is cut into steps of `batch_size` (global) and calls of `steps_per_call`."""

    num_examples: int
    batch_size: int
    steps_per_call: int = 1

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; the last one is padded rather than dropped, so that every example is seen."""
        return -(-self.num_examples // self.batch_size)

    @property
    def padding(self) -> int:
        """Places of the epoch's last batch that hold no example (weight 0)."""
        return self.per_epoch * self.batch_size - self.num_examples

    def in_even_calls(self, max_steps: int) -> "Steps":
        """The same steps in as few calls of at most `max_steps` steps as hold an epoch, as even as possible.

        The steps that fill up an epoch's last call are gathered like any other, which is wasted work: of 30 steps in
        calls of 16 they are 2, in calls of 15 none.
        """
        calls = -(-self.per_epoch // max_steps)
        return dataclasses.replace(self, steps_per_call=-(-self.per_epoch // calls))

    @property
    def num_calls(self) -> int:
        return -(-self.per_epoch // self.steps_per_call)

    def counts(self, first_call: int, calls: int) -> np.ndarray:
        """float32 [calls, steps_per_call]: examples of each step, 0 for steps that only fill up the last call."""
        first_rows = (first_call * self.steps_per_call + np.arange(calls * self.steps_per_call)) * self.batch_size
        count = np.clip(self.num_examples - first_rows, 0, self.batch_size).astype(np.float32)
        return count.reshape(calls, self.steps_per_call)

    def share_of(self, worker: int, num_workers: int) -> "WorkerShare":
        """The part of an epoch that one of several workers reads, if each is dealt rows of its own.

        Every step takes as many rows from each worker; the examples of a last, partial step are dealt out evenly.
        """
        if self.batch_size % num_workers:
            raise ValueError(f"a batch of {self.batch_size} does not divide among {num_workers} workers")
        per_step, (full, rest) = self.batch_size // num_workers, divmod(self.num_examples, self.batch_size)
        start, stop = (k * full * per_step + k * rest // num_workers for k in (worker, worker + 1))
        return WorkerShare(worker, num_workers, start, stop, per_step)

    def calls(self, first_step: int = 0) -> list[tuple[int, int]]:
        """(first step, steps) of each call from `first_step` on; calls begin at multiples of steps_per_call.

        The grid does not depend on where a run starts, so that a resumed run adds up the same numbers in the same
        groups as an uninterrupted one.
        """
        if first_step % self.steps_per_call:
            raise ValueError(f"calls begin at multiples of {self.steps_per_call} steps, not at step {first_step}")
        starts = range(first_step, self.per_epoch, self.steps_per_call)
        return [(start, min(self.steps_per_call, self.per_epoch - start)) for start in starts]


@dataclasses.dataclass(frozen=True)
class WorkerShare:
    """What a worker trains on: rows `start` .. `stop - 1` of an epoch's sequence, `per_step` of them in each step."""

    worker: int
    num_workers: int
    start: int
    stop: int
    per_step: int


def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """A true permutation of 0 .. num_examples - 1 for this epoch: int32 (int64 from 2**31 examples on)."""
    generator = _generator(seed, epoch, _EPOCH_ORDER)
    in_parts = num_examples > _SHUFFLED_AT_ONCE
    # Of int64, although int32 would do: NumPy shuffles words of 64 bits in two thirds of the time of other sizes.
    order = _shuffled_in_parts(num_examples, generator) if in_parts else generator.permutation(num_examples)
    return order.astype(np.int32 if num_examples < 2**31 else np.int64)


def _shuffled_in_parts(num_examples: int, generator: np.random.Generator) -> np.ndarray:
    """A shuffle by parts that stay in the cache: every row draws its part, then each part is shuffled.

    That gives every permutation with the same probability (Rao, Sankhya A 23, 1961; Sandelius, JRSS B 24, 1962).
    """
    part = generator.integers(0, _PARTS, num_examples, np.uint8)
    order = np.argsort(part, kind="stable")  # of bytes, NumPy's stable sort is a radix sort: linear time
    start = 0
    for stop in np.cumsum(np.bincount(part, minlength=_PARTS)).tolist():
        generator.shuffle(order[start:stop])
        start = stop
    return order


def fingerprint() -> str:
    """Identifies the orders that this code and this NumPy draw, in eight hexadecimal digits.

    NumPy promises to keep the bits of Philox, but not what a shuffle makes of them. If that changed, a run resumed
    inside an epoch would repeat some examples and miss others.
    """
    pages = PageOrder((500, 500), 8, 128)
    drawn = (
        epoch_order(1000, 0, 0),
        _shuffled_in_parts(1000, _generator(0, 0, _EPOCH_ORDER)),
        pages.pages(0, 0),
        pages.window_order(0, 0, 0),
    )
    return hashlib.sha256(b"".join(order.astype("<i8").tobytes() for order in drawn)).hexdigest()[:8]


def in_calls(
    order: np.ndarray, batch_size: int, steps_per_call: int, count: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cut an order [n] into calls: index [calls, steps_per_call, batch_size] and count float32 [calls, steps_per_call].

    The last call is filled up with PADDING; `count` is the examples that each step holds, 0 for steps that only fill up
    a call: with elements of one shape a tf.function is traced only once. If the order is one worker's, give the
    `Steps.counts` of all workers, which also say how many calls there are.
    """
    if count is None:
        steps = Steps(len(order), batch_size, steps_per_call)
        count = steps.counts(0, steps.num_calls)
    padded = np.full(count.size * batch_size, PADDING, order.dtype)
    padded[: len(order)] = order
    return padded.reshape(len(count), steps_per_call, batch_size), count


@dataclasses.dataclass(frozen=True)
class PageOrder:
    """A two-level shuffle for data that does not fit in memory.

    Shards are cut into pages of `page_rows` consecutive records. An epoch permutes all pages of all shards. Each worker
    has a stretch of that sequence, its `share` (None: all of it), and cuts it into windows of `window_rows`; each
    window is permuted within. A page is read whole and once, except where a window or a share ends inside it.
    """

    shard_rows: tuple[int, ...]
    page_rows: int
    window_rows: int
    share: WorkerShare | None = None

    @property
    def num_examples(self) -> int:
        return sum(self.shard_rows)

    @property
    def _range(self) -> tuple[int, int]:
        return (self.share.start, self.share.stop) if self.share else (0, self.num_examples)

    @property
    def num_windows(self) -> int:
        start, stop = self._range
        return -(-(stop - start) // self.window_rows)

    def pages(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [pages, 4]: shard, first record, records, place of its first row in the epoch's sequence.

        Only pages with rows of the share are in it, in the order of the sequence.
        """
        rows = np.array(self.shard_rows, np.int64)
        per_shard = -(-rows // self.page_rows)
        first_pages = np.cumsum(per_shard) - per_shard
        counts = np.full(int(per_shard.sum()), self.page_rows)
        counts[(first_pages + per_shard - 1)[per_shard > 0]] -= (per_shard * self.page_rows - rows)[per_shard > 0]
        mixed = _generator(seed, epoch, _PAGE_ORDER).permutation(len(counts))
        ends = np.cumsum(counts[mixed])
        start, stop = self._range
        # Terabytes have tens of millions of pages, so all else is computed for those of the share alone.
        ours = slice(np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop, "left") + 1)
        page, end = mixed[ours], ends[ours]
        shard = np.searchsorted(first_pages, page, "right") - 1
        first = (page - first_pages[shard]) * self.page_rows
        return np.column_stack([shard, first, counts[page], end - counts[page]])

    def window_reads(self, pages: np.ndarray, window: int) -> np.ndarray:
        """int64 [reads, 3]: shard, first record, records - the content of window `window` of the sequence `pages`.

        It is empty for a window after the share's last row.
        """
        start, stop = self._range
        low = min(start + window * self.window_rows, stop)
        high = min(low + self.window_rows, stop)
        ends = pages[:, 3] + pages[:, 2]
        # A page that ends at `low`, or starts at `high`, has no row in the window.
        first, last = np.searchsorted(ends, low, "right"), np.searchsorted(pages[:, 3], high, "left")
        part = pages[first:last]
        begin, end = np.maximum(part[:, 3], low), np.minimum(ends[first:last], high)
        return np.column_stack([part[:, 0], part[:, 1] + begin - part[:, 3], end - begin])[end > begin]

    def window_order(self, seed: int, epoch: int, window: int) -> np.ndarray:
        """The permutation within a window: int32 [rows of the window]."""
        start, stop = self._range
        rows = max(0, min(self.window_rows, stop - start - window * self.window_rows))
        part = window + (self.share.worker << 32 if self.share else 0)  # so that workers do not permute alike
        return _generator(seed, epoch, _WINDOW_ORDER, part).permutation(rows).astype(np.int32)

    def expected_read_distance(self) -> float:
        """Shuffle quality in 0..1, expected over all seeds: the mean distance of rows served one after the other, over
        that of a true permutation of n rows, (n + 1) / 3 (the mean of |i - j| over distinct pairs).

        Neighbours are two rows drawn from one window. With some probability both are of one page, else of two pages
        picked at random.
        """
        total, page = self.num_examples, min(self.page_rows, max(self.shard_rows))
        if total < 3:
            return 1.0
        whole = (total + 1) / 3  # mean distance of two different rows of all
        near = (page + 1) / 3  # of two of one page, which holds consecutive rows
        one_page = (page - 1) / (total - 1)  # probability that two rows are of one page
        far = (whole - one_page * near) / (1 - one_page) if one_page < 1 else near
        start, stop = self._range
        same = min(1.0, (page - 1) / max(1, min(self.window_rows, stop - start) - 1))
        return (same * near + (1 - same) * far) / whole

    def expected_page_mix(self, batch_size: int) -> float:
        """Distinct pages that a batch draws from, over those that a batch of a true permutation does: 0..1.

        Each worker draws its part of the batch from a window of its own.
        """
        (start, stop), workers = self._range, self.share.num_workers if self.share else 1
        batch, window = min(batch_size, self.num_examples), min(self.window_rows, stop - start)
        drawn = workers * _pages_drawn(window, self.page_rows, min(batch // workers, window))
        return min(1.0, drawn / _pages_drawn(self.num_examples, self.page_rows, batch))


def _pages_drawn(rows: int, page_rows: int, batch: int) -> float:
    """Expected number of pages that have at least one of `batch` rows drawn at random from `rows`."""
    return rows / page_rows * (1 - (1 - min(1.0, batch / rows)) ** page_rows)


def _generator(seed: int, epoch: int, purpose: int, part: int = 0) -> np.random.Generator:
    # Philox takes a 128-bit key; the counter's high words keep purposes and parts apart.
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch], counter=[0, 0, part, purpose]))
