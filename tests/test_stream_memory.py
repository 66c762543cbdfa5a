import numpy as np
import pytest

from pipeline.benchmark.stream_memory import write_shards
from pipeline.benchmark.tables import summary_table
from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from tests.helpers.benchmarks import run
from tools import benchmark


def test_memory_streams_more_than_its_budget_and_leaves_nothing(tmp_path):
    place = tmp_path / "scratch"
    place.mkdir()
    found = run(tmp_path, "memory", "--rows", "120000", "--memory-budget", "16MiB", "--dir", place)["figures"]
    assert found["rows streamed"] == found["rows"] == 120_000
    assert found["rows a window"] < 120_000
    # 104 MB of records; a window is at least one call, of 28 MB.
    assert 0 < found["peak, MiB"] - found["after importing TensorFlow, MiB"] < 16 + 300
    assert list(place.iterdir()) == []


def test_a_budget_below_a_mebibyte_is_said_as_it_is(tmp_path):
    found = run(tmp_path, "memory", "--rows", "1000", "--memory-budget", "1")
    assert found["verdict"].endswith(" MiB with a budget of 1 byte")
    assert summary_table({"memory": found}).endswith("| a budget of 1 byte |")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rows", "0"], "--rows 0: it must be at least 1"),
        (["--dir", "nowhere"], "--dir nowhere: there is no such directory"),
        (["--rows", "10" + "0" * 12], "GB needed, .* GB free; use another disk"),
        (["--memory-budget", "plenty"], "'plenty' is not a size such as 4GiB"),
    ],
    ids=["no rows", "no directory", "more than the disk", "no size"],
)
def test_memory_refuses_what_it_cannot_measure(flags, message):
    with pytest.raises(InputError, match=message):
        benchmark.main(["memory", *flags])


def test_made_up_shards_are_a_data_set(tmp_path):
    write_shards(tmp_path, 100)
    arrays = load_split(tmp_path, load_manifest(tmp_path), "train")
    np.testing.assert_array_equal(arrays.ids, np.arange(100))
    np.testing.assert_array_equal(arrays.labels, np.arange(100) % 10)
