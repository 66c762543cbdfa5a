import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.feed.stream import SplitReader, plan_pages
from pipeline.format.manifest import load_manifest
from pipeline.format.records import page_rows
from tests.helpers import faults
from tests.helpers.datasets import write_digits


@pytest.fixture(scope="module")
def reader(digits):
    return SplitReader(digits, load_manifest(digits), "train")


@pytest.fixture(scope="module")
def arrays(digits):
    return load_split(digits, load_manifest(digits), "train")


@pytest.mark.parametrize(("low", "high"), [(0, 203), (0, 1), (67, 69), (68, 136), (202, 203), (5, 140), (100, 100)])
def test_rows_are_those_of_the_whole_split(reader, arrays, low, high):
    part = reader.read_rows(low, high)
    np.testing.assert_array_equal(part.images, arrays.images[low:high])
    np.testing.assert_array_equal(part.labels, arrays.labels[low:high])
    np.testing.assert_array_equal(part.ids, arrays.ids[low:high])


def test_runs_of_records_come_with_their_rows(reader, arrays):
    part, rows = reader.read(np.array([[2, 10, 4], [0, 0, 1]]))
    assert rows.tolist() == [146, 147, 148, 149, 0]
    np.testing.assert_array_equal(part.images, arrays.images[rows])
    np.testing.assert_array_equal(part.ids, arrays.ids[rows])


def test_window_is_at_least_one_call_however_small_the_budget(reader):
    assert reader.page_order(memory_budget=1, rows_per_call=64).window_rows == 64


def test_windows_are_whole_calls_within_a_quarter_of_the_budget():
    pages = plan_pages((10_000, 5_000), stride=1000, memory_budget=4_000_000, rows_per_call=300)
    assert (pages.window_rows, pages.page_rows, pages.num_examples) == (900, page_rows(1000), 15_000)


def test_corrupt_record_is_named_when_it_is_read(tmp_path):
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    shard = directory / manifest.split("train").shards[1].name
    faults.flip_bit(shard, manifest.stride * 7 + 60)
    reader = SplitReader(directory, manifest, "train")
    assert len(reader.read_rows(0, 68)) == 68
    with pytest.raises(InputError, match=f"{shard.name}: record 7 .* repair {directory} --from train=train.csv"):
        reader.read(np.array([[1, 5, 10]]))
    with pytest.raises(InputError, match=f"{shard.name}: record 7 .* is corrupt"):
        reader.read_rows(0, 203)
