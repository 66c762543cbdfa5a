import numpy as np
import pytest

from pipeline.convert.manifest import load_manifest
from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.feed.stream import ShardReader
from tests.datasets import write_digits


@pytest.fixture(scope="module")
def reader(digits):
    return ShardReader(digits, load_manifest(digits), "train")


@pytest.fixture(scope="module")
def arrays(digits):
    return load_split(digits, load_manifest(digits), "train")


@pytest.mark.parametrize(("low", "high"), [(0, 203), (0, 1), (1, 2), (202, 203), (5, 9), (100, 100)])
def test_rows_are_those_of_the_whole(reader, arrays, low, high):
    part = reader.read_rows(low, high)
    np.testing.assert_array_equal(part.images, arrays.images[low:high])
    np.testing.assert_array_equal(part.labels, arrays.labels[low:high])
    np.testing.assert_array_equal(part.ids, arrays.ids[low:high])


def test_runs_of_records_come_with_their_rows(reader, arrays):
    part, rows = reader.read(np.array([[2, 10, 4], [0, 0, 1]]))
    assert rows.tolist() == [32, 35, 38, 41, 0]
    np.testing.assert_array_equal(part.images, arrays.images[rows])


def test_a_window_is_at_least_one_call_however_small_the_budget(reader):
    assert reader.page_order(memory_budget=1, rows_per_call=64).window_rows == 64


def test_a_damaged_record_is_named_when_it_is_read(tmp_path):
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    shard = directory / manifest.split("train").shards[1].name
    content = bytearray(shard.read_bytes())
    content[manifest.stride * 7] ^= 1
    shard.write_bytes(content)
    reader = ShardReader(directory, manifest, "train")
    with pytest.raises(InputError, match=f"{shard.name}: record 7 is damaged"):
        reader.read(np.array([[1, 5, 10]]))
