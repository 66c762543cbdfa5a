import os

import pytest

from pipeline.errors import InputError
from pipeline.feed.order import PageOrder
from pipeline.feed.plan import default_memory_budget, free_memory, plan_feed

MIB, GIB = 2**20, 2**30
IMAGES = {"num_examples": 60_000, "image_bytes": 784}


@pytest.mark.parametrize(
    ("feed", "budget", "device_memory", "expected"),
    [
        ("auto", GIB, None, "host"),
        ("auto", GIB, 16 * GIB, "device"),
        ("auto", GIB, GIB // 16, "host"),
        ("auto", MIB, 16 * GIB, "stream"),
        ("host", GIB, 16 * GIB, "host"),
        ("device", GIB, None, "device"),
        ("stream", GIB, 16 * GIB, "stream"),
    ],
)
def test_plan_follows_from_the_sizes(feed, budget, device_memory, expected):
    plan = plan_feed(**IMAGES, feed=feed, budget=budget, device_memory=device_memory)
    assert plan.feed == expected
    assert plan.describe().startswith(f"feed {expected}: ")


@pytest.mark.parametrize(
    ("feed", "budget", "device_memory", "message"),
    [
        ("host", MIB, None, "feed host: the data takes 46.9 MiB, over .* 1.0 MiB; use feed stream"),
        ("device", MIB, None, "feed device: the data takes 46.9 MiB, over .* 1.0 MiB; use feed stream"),
        ("device", GIB, GIB // 16, "the data takes 46.9 MiB, over a quarter of an accelerator.s 64.0 MiB; use feed h"),
    ],
)
def test_feed_that_does_not_fit_is_refused_with_the_sizes(feed, budget, device_memory, message):
    with pytest.raises(InputError, match=message):
        plan_feed(**IMAGES, feed=feed, budget=budget, device_memory=device_memory)


def test_plan_of_a_stream_reports_the_quality_of_its_shuffle():
    plan = plan_feed(**IMAGES, feed="stream", budget=GIB, device_memory=None)
    pages = PageOrder(shard_rows=(7500,) * 8, page_rows=300, window_rows=3000)
    # One page in ten is the neighbour's, and 3000 rows are 10 pages; a permutation's batch draws from 145 of 200.
    assert plan.with_order(pages, 256).shuffle == (
        "shuffled in windows of 3,000 rows: 91% of a true permutation's read distance, "
        "a batch from 7% of the pages of one; "
        "the order depends on seed, batch size, steps per call, memory budget and the number of workers (1)"
    )


def test_every_replica_on_the_host_keeps_a_copy():
    held = [plan_feed(**IMAGES, feed="device", budget=GIB, device_memory=None, replicas=n).bytes_held for n in (1, 4)]
    assert held[1] == 4 * held[0]


def test_default_budget_is_a_part_of_this_machine():
    assert 2**26 < default_memory_budget() < 2**44


def group_v2(name, limit, used, inactive=0):
    files = {"max": limit, "current": used, "stat": f"anon 5\ninactive_file {inactive}\nactive_file 7"}
    return {f"sys/fs/cgroup{name}/memory.{file}": text for file, text in files.items()}


def group_v1(name, limit, used, inactive=0):
    stat = f"cache 5\ninactive_file 1\ntotal_inactive_file {inactive}"
    files = {"limit_in_bytes": limit, "usage_in_bytes": used, "stat": stat}
    return {f"sys/fs/cgroup/memory{name}/memory.{file}": text for file, text in files.items()}


V1_LINES = "12:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/docker/a\n"


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("", {}, 8 * GIB),
        ("0::/\n", group_v2("", "max", GIB), 8 * GIB),
        ("0::/\n", group_v2("", 4 * GIB, GIB), 3 * GIB),
        ("0::/\n", group_v2("", 4 * GIB, 4 * GIB - MIB, inactive=3 * GIB), 3 * GIB + MIB),
        ("0::/\n", group_v2("", 4 * GIB, 5 * GIB), 0),
        ("0::/\n", group_v2("", 32 * GIB, GIB), 8 * GIB),
        ("0::/a/b\n", {**group_v2("/a/b", 4 * GIB, GIB), **group_v2("/a", 2 * GIB, GIB)}, GIB),
        ("0::/a/b\n", {**group_v2("/a/b", "max", GIB), **group_v2("/a", 2 * GIB, GIB, MIB)}, GIB + MIB),
        ("0::/../../host/a\n", group_v2("", 2 * GIB, GIB), GIB),
        (V1_LINES, group_v1("", 2 * GIB, GIB), GIB),
        (V1_LINES, {**group_v1("", 2**63 - 4096, GIB), **group_v1("/docker/a", 4 * GIB, 3 * GIB, GIB)}, 2 * GIB),
        ("nonsense\n1:memory\n", group_v2("", "?", "?"), 8 * GIB),
    ],
    ids=[
        *("no groups", "limit max", "limit", "clean page cache is free", "over the limit", "limit above the machine"),
        *("outer group is tighter", "only the outer group limits", "path of the host"),
        *("version 1 seen from inside a container", "version 1 nested", "unreadable"),
    ],
)
def test_free_memory_is_the_least_that_any_group_allows(tmp_path, groups, files, free):
    machine = {"proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n", "proc/self/cgroup": groups}
    for name, text in {**machine, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert free_memory(tmp_path) == free


def test_without_proc_total_memory_stands_in(tmp_path):
    assert free_memory(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
