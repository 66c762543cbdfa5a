import collections
import hashlib

import numpy as np
import pytest

from pipeline.feed import order
from pipeline.feed.order import PADDING, PageOrder, Steps, epoch_order, in_calls


@pytest.mark.parametrize(
    ("examples", "batch", "per_epoch", "padding"), [(10, 5, 2, 0), (11, 5, 3, 4), (3, 5, 1, 2), (54_000, 256, 211, 16)]
)
def test_epoch_holds_every_example_and_pads_the_last_step(examples, batch, per_epoch, padding):
    steps = Steps(examples, batch)
    assert (steps.per_epoch, steps.padding) == (per_epoch, padding)


def test_calls_do_not_depend_on_where_a_run_starts():
    steps = Steps(num_examples=100, batch_size=10, steps_per_call=4)
    assert steps.calls() == [(0, 4), (4, 4), (8, 2)]
    assert steps.calls(first_step=4) == steps.calls()[1:]
    with pytest.raises(ValueError, match="multiples of 4 steps, not at step 3"):
        steps.calls(first_step=3)


@pytest.mark.parametrize(
    ("examples", "max_steps", "even"),
    [(300, 16, 15), (320, 16, 16), (30, 16, 3), (170, 16, 9), (10, 1, 1), (1, 64, 1)],
    ids=["two steps less", "divides", "a whole epoch", "two calls", "one step", "one step per epoch"],
)
def test_calls_are_as_even_as_their_number_allows(examples, max_steps, even):
    steps = Steps(examples, batch_size=10).in_even_calls(max_steps)
    assert steps.steps_per_call == even
    assert len(steps.calls()) == -(-steps.per_epoch // max_steps)
    assert steps.in_even_calls(even) == steps  # so that a resumed run, given the first start's number, agrees


def test_counts_below_one_are_refused():
    for field in ("num_examples", "batch_size", "steps_per_call"):
        with pytest.raises(ValueError, match=f"{field} must be at least 1, not 0"):
            Steps(**{"num_examples": 4, "batch_size": 2, "steps_per_call": 1, field: 0})


def test_orders_are_pinned():
    # They may change only together with the checkpoints' version: a run resumed across a change would repeat examples.
    assert epoch_order(12, 0, 0).tolist() == [0, 7, 6, 1, 9, 3, 8, 10, 5, 2, 4, 11]
    assert epoch_order(12, 0, 1).tolist() == [1, 10, 11, 4, 2, 7, 0, 8, 9, 5, 3, 6]
    over_a_million = epoch_order((1 << 20) + 1, 0, 0)
    assert over_a_million[:4].tolist() == [323071, 193709, 667097, 402095]
    assert hashlib.sha256(over_a_million.tobytes()).hexdigest()[:16] == "d5edaea26ca9456d"


def test_fingerprint_detects_an_order_drawn_in_another_way(monkeypatch):
    assert order.fingerprint() == "5479e789"  # may change like the order above
    monkeypatch.setattr(order, "_PARTS", 128)
    assert order.fingerprint() != "5479e789"
    monkeypatch.undo()
    monkeypatch.setattr(order, "_WINDOW_ORDER", 7)
    assert order.fingerprint() != "5479e789"


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("examples", [1, 100, 70_000], ids=["one row", "fewer than parts", "more than parts"])
def test_epoch_is_a_permutation_of_its_own(monkeypatch, in_parts, examples):
    monkeypatch.setattr(order, "_SHUFFLED_AT_ONCE", 0 if in_parts else 1 << 20)
    first, again = epoch_order(examples, 7, 0), epoch_order(examples, 7, 0)
    assert first.dtype == np.int32
    np.testing.assert_array_equal(np.sort(first), np.arange(examples))
    np.testing.assert_array_equal(first, again)
    for other in (epoch_order(examples, 7, 1), epoch_order(examples, 8, 0)):
        assert examples == 1 or (first != other).mean() > 0.9


def test_shuffle_in_parts_gives_every_permutation_with_the_same_probability(monkeypatch):
    monkeypatch.setattr(order, "_SHUFFLED_AT_ONCE", 0)
    drawn = collections.Counter(tuple(epoch_order(4, 0, epoch).tolist()) for epoch in range(4800))
    assert len(drawn) == 24
    # Chi-squared with 23 degrees of freedom exceeds 49.7 once in a thousand; the seed is fixed.
    assert sum((count - 200) ** 2 / 200 for count in drawn.values()) < 49.7


def test_last_call_is_filled_up_with_steps_of_padding():
    index, count = in_calls(np.arange(7, dtype=np.int32), batch_size=2, steps_per_call=3)
    assert index.tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, PADDING], [PADDING] * 2, [PADDING] * 2]]
    assert count.tolist() == [[2, 2, 2], [1, 0, 0]]


def served(pages: PageOrder, seed: int, epoch: int) -> list[int]:
    """The examples of an epoch in the order in which windows serve them."""
    table, starts = pages.pages(seed, epoch), np.cumsum([0, *pages.shard_rows])
    rows = []
    for window in range(pages.num_windows):
        reads = pages.window_reads(table, window).tolist()
        parts = [starts[shard] + np.arange(first, first + count) for shard, first, count in reads]
        rows += np.concatenate(parts)[pages.window_order(seed, epoch, window)].tolist()
    return rows


def read_distance(order) -> float:
    """Mean distance of rows served one after the other, over that of a true permutation: 1.0 is a true shuffle."""
    return float(np.abs(np.diff(order)).mean() / ((len(order) + 1) / 3))


def pages_drawn(batches: np.ndarray, pages: PageOrder) -> float:
    """Mean number of pages that batches int [n, size] draw from."""
    starts = np.cumsum([0, *pages.shard_rows])
    shard = np.searchsorted(starts, batches, "right") - 1
    numbers = shard * 10**6 + (batches - starts[shard]) // pages.page_rows
    return float(np.mean([len(np.unique(batch)) for batch in numbers]))


def test_windows_serve_every_example_once_and_differ_by_epoch():
    pages = PageOrder(shard_rows=(40, 25, 54), page_rows=8, window_rows=24)
    assert sorted(served(pages, 3, 0)) == list(range(119))
    assert served(pages, 3, 0) == served(pages, 3, 0) != served(pages, 3, 1)
    reads = np.concatenate([pages.window_reads(pages.pages(0, 0), window) for window in range(pages.num_windows)])
    assert (reads[:, 2] > 0).all()


@pytest.mark.parametrize(
    "pages",
    [
        PageOrder((1000,) * 8, page_rows=20, window_rows=2000),
        PageOrder((1000,) * 8, page_rows=100, window_rows=400),
        PageOrder((1000,) * 8, page_rows=500, window_rows=1000),
        PageOrder((4000,), page_rows=100, window_rows=200),
        PageOrder((700, 300), page_rows=50, window_rows=1024),
    ],
    ids=["many pages", "few pages", "two pages", "one shard", "one window"],
)
def test_expected_shuffle_is_the_served_one(pages):
    orders = np.array([served(pages, seed, 0) for seed in range(12)])
    distance = np.mean([read_distance(order) for order in orders])
    assert pages.expected_read_distance() == pytest.approx(distance, abs=0.05)
    permutations = np.array([epoch_order(pages.num_examples, seed, 0) for seed in range(12)])
    # A batch of 200 at the start of a window.
    mix = pages_drawn(orders[:, :200], pages) / pages_drawn(permutations[:, :200], pages)
    assert pages.expected_page_mix(200) == pytest.approx(mix, rel=0.05)


def test_one_window_over_all_rows_is_a_true_permutation():
    pages = PageOrder(shard_rows=(40, 40, 39), page_rows=8, window_rows=200)
    assert pages.expected_read_distance() == pytest.approx(1.0)
    assert pages.expected_page_mix(16) == 1.0


@pytest.mark.parametrize(
    ("examples", "batch", "workers"),
    [(203, 16, 1), (203, 16, 2), (203, 16, 16), (192, 16, 8), (3, 8, 4), (10_007, 640, 64)],
)
def test_shares_of_workers_meet_and_hold_as_many_rows_per_step(examples, batch, workers):
    shares = [Steps(examples, batch).share_of(worker, workers) for worker in range(workers)]
    assert [share.start for share in shares] == [0, *(share.stop for share in shares[:-1])]
    assert shares[-1].stop == examples
    full = examples // batch
    for share in shares:
        assert full * share.per_step <= share.stop - share.start <= (full + 1) * share.per_step
    assert max(s.stop - s.start for s in shares) - min(s.stop - s.start for s in shares) <= 1


def test_a_batch_that_does_not_divide_among_workers_is_refused():
    with pytest.raises(ValueError, match="a batch of 10 does not divide among 4 workers"):
        Steps(100, 10).share_of(0, 4)


def dealt(workers: int, steps: Steps, **pages) -> list[PageOrder]:
    return [PageOrder(**pages, share=steps.share_of(worker, workers)) for worker in range(workers)]


PAGES = {"shard_rows": (40, 25, 54), "page_rows": 8, "window_rows": 24}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_windows_of_workers_serve_every_example_once(workers):
    orders = dealt(workers, Steps(119, 8), **PAGES)
    rows = [served(pages, 3, 0) for pages in orders]
    assert sorted(sum(rows, [])) == list(range(119))
    if workers == 1:
        assert rows[0] == served(PageOrder(**PAGES), 3, 0)


def test_orders_of_two_workers_are_pinned():
    # They may change like the other orders: a run resumed inside an epoch would repeat examples.
    rows = [served(pages, 0, 0)[:8] for pages in dealt(2, Steps(119, 8), **PAGES)]
    assert rows == [[58, 74, 63, 116, 77, 113, 115, 76], [67, 71, 87, 69, 11, 8, 68, 40]]


def test_a_worker_reads_its_share_and_at_most_a_page_per_window():
    for pages in dealt(8, Steps(100_000, 512, 4), shard_rows=(12_500,) * 8, page_rows=300, window_rows=2048):
        table = pages.pages(0, 0)
        reads = np.concatenate([pages.window_reads(table, window) for window in range(pages.num_windows)])
        low, high = reads[:, 1] // 300 * 300, np.minimum(-(-(reads[:, 1] + reads[:, 2]) // 300) * 300, 12_500)
        rows = pages.share.stop - pages.share.start
        assert rows <= (high - low).sum() <= rows + (pages.num_windows + 1) * 300  # one more, where its share begins
        assert rows == reads[:, 2].sum()


def test_expected_page_mix_counts_the_windows_of_all_workers():
    orders = dealt(4, Steps(8000, 200), shard_rows=(1000,) * 8, page_rows=100, window_rows=400)
    drawn = []
    for seed in range(12):
        parts = [served(pages, seed, 0)[:50] for pages in orders]
        permutation = epoch_order(8000, seed, 0)[:200]
        drawn.append([pages_drawn(np.array([batch]), orders[0]) for batch in (sum(parts, []), permutation)])
    ours, true = np.mean(drawn, axis=0)
    assert orders[0].expected_page_mix(200) == pytest.approx(ours / true, rel=0.05)
