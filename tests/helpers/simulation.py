"""A training on many hosts, simulated: how pages are dealt to them, and how long they wait for each other.

    python -m tests.helpers.simulation  # prints the tables of docs/many-hosts.md

Dealing runs the feed's own arithmetic for an epoch and counts every row. Waiting is a seeded discrete-event simulation:
a step ends when the slowest replica of all hosts has, and begins when every host has its rows in memory. Step times are
lognormal, and so are those of reads; a host reads up to two windows ahead, as the stream feed does.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.feed.order import PageOrder, Steps

_AHEAD = 2  # windows read before one is needed: the one that waits, and the one being read
_SHARD_ROWS = 300_007  # no multiple of a page
_NOISES = (0.0, 0.02, 0.05, 0.1)
_PAUSES = ((0.0, 0.0), (1e-4, 0.1))  # per step and replica: its probability, and its seconds
_READ_RATES = (4.0, 1.5, 1.0, 0.75, 0.5)
_READ_NOISE = 0.2


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What is simulated; times in milliseconds.

    Args:
        per_replica: images per replica and step.
        page_rows: of a page of 256 KiB.
        window_calls: calls of 8 steps that a window holds.
    """

    hosts: int = 8
    replicas: int = 8
    per_replica: int = 256
    step_ms: float = 13.2
    reduce_ms: float = 1.1
    epoch_rows: int = 20_000_000
    page_rows: int = 301
    window_calls: int = 4
    steps: int = 20_000
    seed: int = 0

    @property
    def window_steps(self) -> int:
        return self.window_calls * 8

    @property
    def batch_size(self) -> int:
        return self.hosts * self.replicas * self.per_replica


class Dealt(NamedTuple):
    """An epoch of a host: its rows, its windows, and rows read over rows that it trains on."""

    rows: int
    windows: int
    read_ratio: float


def deal_epoch(cluster: Cluster, epoch: int) -> tuple[list[Dealt], np.ndarray]:
    """Deal an epoch to the hosts as the stream feed does; also how often each row was dealt, uint8 [epoch_rows]."""
    full, rest = divmod(cluster.epoch_rows, _SHARD_ROWS)
    shard_rows = (_SHARD_ROWS,) * full + (rest,) * (rest > 0)
    starts = np.cumsum([0, *shard_rows])
    steps = Steps(cluster.epoch_rows, cluster.batch_size, 8)
    seen, hosts = np.zeros(cluster.epoch_rows, np.uint8), []
    for host in range(cluster.hosts):
        share = steps.share_of(host, cluster.hosts)
        pages = PageOrder(shard_rows, cluster.page_rows, cluster.window_steps * share.per_step, share)
        table, rows_read = pages.pages(cluster.seed, epoch), 0
        for window in range(pages.num_windows):
            reads = pages.window_reads(table, window)
            rows_read += _rows_of_whole_pages(reads, np.array(shard_rows), cluster.page_rows)
            for shard, first, count in reads.tolist():
                seen[starts[shard] + first : starts[shard] + first + count] += 1
        rows = share.stop - share.start
        hosts.append(Dealt(rows, pages.num_windows, rows_read / max(1, rows)))
    return hosts, seen


def _rows_of_whole_pages(reads: np.ndarray, shard_rows: np.ndarray, page_rows: int) -> int:
    """Rows of the whole pages that `reads` [m, 3] (shard, first, count) take from the disk."""
    low = reads[:, 1] // page_rows * page_rows
    high = -(-(reads[:, 1] + reads[:, 2]) // page_rows) * page_rows
    return int((np.minimum(high, shard_rows[reads[:, 0]]) - low).sum())


class Waits(NamedTuple):
    """Shares of the time of all steps: computing and reducing alone, waiting for stragglers, waiting for rows."""

    work: float
    stragglers: float
    rows: float


def simulate_waits(cluster: Cluster, noise: float, pause: tuple[float, float], read_rates: Sequence[float]) -> Waits:
    """Simulate the steps of all hosts.

    Args:
        noise: standard deviation of the logarithm of a replica's step time; its mean is `step_ms`.
        pause: probability per step and replica of a pause, and its seconds.
        read_rates: per host, the rows that it can read per second over those that it needs if nothing waits.
    """
    rng = np.random.default_rng(cluster.seed)
    step, reduce = cluster.step_ms / 1e3, cluster.reduce_ms / 1e3
    read_seconds = cluster.window_steps * (step + reduce) / np.asarray(read_rates)
    hosts = len(read_seconds)

    def read(begin: np.ndarray) -> np.ndarray:
        return begin + read_seconds * np.exp(_READ_NOISE * rng.standard_normal(hosts) - _READ_NOISE**2 / 2)

    ready = {0: read(np.zeros(hosts))}  # when each host has a window
    for window in range(1, _AHEAD):
        ready[window] = read(ready[window - 1])
    now = start = float(ready[0].max())  # the first read is a start, not a stall
    stragglers = rows = 0.0
    for index, slowest in enumerate(_slowest_replicas(cluster, noise, pause, rng)):
        window, place = divmod(index, cluster.window_steps)
        if place == 0:
            begin = max(now, float(ready.pop(window).max()))
            rows += begin - now
            now = begin
            # A read begins once the one before it is done, and a window is taken away from those that wait.
            ready[window + _AHEAD] = read(np.maximum(ready[window + _AHEAD - 1], now))
        stragglers += slowest - step
        now += slowest + reduce
    total = now - start
    return Waits((total - stragglers - rows) / total, stragglers / total, rows / total)


def _slowest_replicas(
    cluster: Cluster, noise: float, pause: tuple[float, float], rng: np.random.Generator
) -> Iterator[float]:
    """Seconds of the slowest replica of each step."""
    probability, seconds = pause
    block, replicas = 1024, cluster.hosts * cluster.replicas
    for first in range(0, cluster.steps, block):
        size = (min(block, cluster.steps - first), replicas)
        times = cluster.step_ms / 1e3 * np.exp(noise * rng.standard_normal(size) - noise**2 / 2)
        times += seconds * (rng.random(size) < probability)
        yield from times.max(axis=1).tolist()


def dealing_table(cluster: Cluster) -> Iterator[str]:
    """The lines of the table of dealing."""
    yield "| epoch | rows | dealt once | rows per host | windows per host | rows read per row trained on |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    for epoch in range(2):
        hosts, seen = deal_epoch(cluster, epoch)
        rows, windows, ratios = zip(*hosts, strict=True)
        once = int((seen == 1).sum())
        yield (
            f"| {epoch} | {cluster.epoch_rows:,} | {once:,} | {min(rows):,} to {max(rows):,} | {max(windows)} "
            f"| {min(ratios):.4f} to {max(ratios):.4f} |"
        )


def waiting_table(cluster: Cluster) -> Iterator[str]:
    """The lines of the table of waiting: noise and pauses with fast reads, then reads of one slow host."""
    yield "| step times vary by | pauses | slowest host reads | work | waits for stragglers | waits for rows |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: |"
    cases = [(noise, pause, _READ_RATES[0]) for pause in _PAUSES for noise in _NOISES]
    cases += [(0.05, _PAUSES[0], rate) for rate in _READ_RATES[1:]]
    for noise, pause, rate in cases:
        rates = [rate, *[max(rate, _READ_RATES[0])] * (cluster.hosts - 1)]
        waits = simulate_waits(cluster, noise, pause, rates)
        text = f"{pause[1] * 1e3:.0f} ms, 1 in {1 / pause[0]:,.0f}" if pause[0] else "none"
        shares = " | ".join(f"{share:.1%}" for share in waits)
        yield f"| {noise:.0%} | {text} | {rate:g} times its need | {shares} |"


if __name__ == "__main__":
    print("\n".join([*dealing_table(Cluster()), "", *waiting_table(Cluster())]))
