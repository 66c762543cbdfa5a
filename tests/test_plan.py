import pytest

from pipeline.errors import InputError
from pipeline.feed.order import PageOrder
from pipeline.feed.plan import default_memory_budget, plan_feed

GIB = 2**30
IMAGES = {"num_examples": 60_000, "image_bytes": 784}


@pytest.mark.parametrize(
    ("feed", "budget", "device_memory", "expected"),
    [
        ("auto", GIB, None, "host"),
        ("auto", GIB, 16 * GIB, "device"),
        ("auto", GIB, GIB // 16, "host"),
        ("auto", 2**20, 16 * GIB, "stream"),
        ("host", GIB, 16 * GIB, "host"),
        ("device", GIB, None, "device"),
        ("stream", GIB, 16 * GIB, "stream"),
    ],
    ids=[
        *("fits on a CPU", "fits on a GPU", "a GPU too small", "over the budget"),
        *("host requested", "device requested", "stream requested"),
    ],
)
def test_plan_follows_from_the_sizes(feed, budget, device_memory, expected):
    plan = plan_feed(**IMAGES, feed=feed, budget=budget, device_memory=device_memory)
    assert plan.feed == expected
    assert plan.describe().startswith(f"feed {expected}: ")


def test_plan_of_a_stream_reports_the_quality_of_its_shuffle():
    plan = plan_feed(**IMAGES, feed="stream", budget=GIB, device_memory=None)
    pages = PageOrder(shard_rows=(7500,) * 8, page_rows=300, window_rows=3000)
    # One page in ten is the neighbour's, and 3000 rows are 10 pages; a permutation's batch draws from 145 of 200.
    assert (
        plan.with_order(pages, 256)
        .describe()
        .endswith(
            "as requested; shuffled in windows of 3,000 rows: 91% of a true permutation's read distance, "
            "a batch from 7% of the pages of one"
        )
    )


def test_device_that_is_too_small_is_refused():
    with pytest.raises(
        InputError, match="feed device: the data takes 46.9 MiB, over a quarter of an accelerator.s 64.0 MiB"
    ):
        plan_feed(**IMAGES, feed="device", budget=GIB, device_memory=GIB // 16)


@pytest.mark.parametrize("feed", ["host", "device"])
def test_feed_that_does_not_fit_is_refused_with_the_sizes(feed):
    with pytest.raises(InputError, match=f"feed {feed}: the data takes 46.9 MiB, over .* 1.0 MiB; use feed stream"):
        plan_feed(**IMAGES, feed=feed, budget=2**20, device_memory=None)


def test_every_replica_on_the_host_keeps_a_copy():
    held = [plan_feed(**IMAGES, feed="device", budget=GIB, device_memory=None, replicas=n).bytes_held for n in (1, 4)]
    assert held[1] == 4 * held[0]


def test_default_budget_is_a_part_of_this_machine():
    assert 2**26 < default_memory_budget() < 2**44
