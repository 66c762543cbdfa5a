import numpy as np
import pytest

from pipeline.feed.order import Steps
from pipeline.feed.stream import SplitReader, _spread, plan_pages, read_sample
from pipeline.format.manifest import load_manifest
from pipeline.format.records import page_rows
from pipeline.format.shards import ShardReader
from tests.helpers.datasets import bars


@pytest.fixture(scope="module")
def reader(digits):
    return SplitReader(digits, load_manifest(digits), "train")


def assert_rows(arrays, rows):
    images, labels = bars(range(203))
    np.testing.assert_array_equal(arrays.images, images.reshape(203, -1)[rows])
    np.testing.assert_array_equal(arrays.labels, labels[rows])
    np.testing.assert_array_equal(arrays.ids, rows)


@pytest.mark.parametrize(("low", "high"), [(0, 203), (0, 1), (67, 69), (68, 136), (202, 203), (5, 140), (100, 100)])
def test_rows_may_span_shards(reader, low, high):
    assert_rows(reader.read_rows(low, high), np.arange(low, high))


def test_runs_of_records_come_with_their_rows(reader):
    arrays, rows = reader.read(np.array([[2, 10, 4], [0, 0, 1]]))
    assert rows.tolist() == [146, 147, 148, 149, 0]
    assert_rows(arrays, rows)


@pytest.mark.parametrize(("budget", "window_rows"), [(4_000_000, 900), (1, 300)])
def test_windows_are_whole_calls_within_a_quarter_of_the_budget_and_at_least_one(budget, window_rows):
    share = Steps(15_000, 200, 3).share_of(1, 2)
    pages = plan_pages((10_000, 5_000), stride=1000, memory_budget=budget, steps_per_call=3, share=share)
    assert (pages.window_rows, pages.page_rows, pages.num_examples) == (window_rows, page_rows(1000), 15_000)


def test_a_sample_is_spread_over_the_split_and_meets_labels_that_repeat_in_a_cycle(digits):
    manifest = load_manifest(digits)
    arrays = read_sample(digits, manifest, "train", 20)
    assert len(arrays) <= 20 and len(set(arrays.ids.tolist())) == len(arrays)
    assert np.diff(arrays.ids).max() < 3 * 203 / 20
    assert len(read_sample(digits, manifest, "train", 1000)) == 203
    rows = _spread(60_000, 300)
    assert set(rows % 10) == set(range(10)) and (np.diff(rows) > 0).all()


def test_each_page_of_a_sample_is_read_once(digits, monkeypatch):
    manifest = load_manifest(digits)
    whole = SplitReader(digits, manifest, "train").read_rows(0, 203)
    read, calls = ShardReader.read, []
    monkeypatch.setattr(ShardReader, "read", lambda self, *run: calls.append((self.path, *run)) or read(self, *run))
    rows = np.array([0, 1, 5, 150, 202])
    picked = SplitReader(digits, manifest, "train").pick(rows)
    assert (picked.images == whole.images[rows]).all()
    assert picked.labels.tolist() == whole.labels[rows].tolist()
    assert picked.ids.tolist() == whole.ids[rows].tolist()
    assert len(calls) == len({path for path, _, _ in calls}) == 2
