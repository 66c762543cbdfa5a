import os

import pytest

from pipeline.feed.plan import free_memory

MIB = 2**20
GIB = 2**30


@pytest.fixture
def root(tmp_path):
    """Writes files of /proc and /sys, given as path -> text, and returns their root; 8 GiB are available."""

    def write(groups, **files):
        texts = {"proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n", "proc/self/cgroup": groups}
        for name, text in {**texts, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def group_v2(name, limit, used, inactive=0):
    base = f"sys/fs/cgroup{name}"
    stat = f"anon 5\ninactive_file {inactive}\nactive_file 7\n"
    return {f"{base}/memory.max": f"{limit}\n", f"{base}/memory.current": f"{used}\n", f"{base}/memory.stat": stat}


def group_v1(name, limit, used, inactive=0):
    base = f"sys/fs/cgroup/memory{name}"
    stat = f"cache 5\ninactive_file 1\ntotal_inactive_file {inactive}\n"
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used}
    return {**{f"{base}/{file}": f"{value}\n" for file, value in files.items()}, f"{base}/memory.stat": stat}


V1_LINES = "12:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/docker/a\n"


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("", {}, 8 * GIB),
        ("0::/\n", group_v2("", "max", GIB), 8 * GIB),
        ("0::/\n", group_v2("", 4 * GIB, GIB), 3 * GIB),
        ("0::/\n", group_v2("", 4 * GIB, 4 * GIB - MIB, inactive=3 * GIB), 3 * GIB + MIB),
        ("0::/\n", group_v2("", 4 * GIB, 5 * GIB), 0),
        ("0::/\n", group_v2("", 32 * GIB, GIB), 8 * GIB),
        ("0::/a/b\n", {**group_v2("/a/b", 4 * GIB, GIB), **group_v2("/a", 2 * GIB, GIB)}, GIB),
        ("0::/a/b\n", {**group_v2("/a/b", "max", GIB), **group_v2("/a", 2 * GIB, GIB, MIB)}, GIB + MIB),
        ("0::/../../host/a\n", group_v2("", 2 * GIB, GIB), GIB),
        (V1_LINES, group_v1("/docker/a", 4 * GIB, 3 * GIB, inactive=2 * GIB), 3 * GIB),
        (V1_LINES, group_v1("", 2 * GIB, GIB), GIB),
        (V1_LINES, {**group_v1("", 2**63 - 4096, GIB), **group_v1("/docker/a", 3 * GIB, GIB)}, 2 * GIB),
        ("nonsense\n1:memory\n", group_v2("", "?", "?"), 8 * GIB),
    ],
    ids=[
        *("no limit", "no groups", "limit max", "limit", "clean page cache is free", "over the limit"),
        *("limit above the machine", "outer group is tighter", "only the outer group limits"),
        *("path of the host", "version 1", "version 1 seen from inside a container", "version 1 nested"),
        "unreadable",
    ],
)
def test_free_memory_is_the_least_that_any_group_allows(root, groups, files, free):
    assert free_memory(root(groups, **files)) == free


def test_without_proc_total_memory_stands_in(tmp_path):
    assert free_memory(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
