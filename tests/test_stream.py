import numpy as np
import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.feed.stream import ShardReader
from pipeline.format.manifest import load_manifest
from pipeline.format.pages import page_rows
from tests.helpers.datasets import write_csv, write_digits


def write_csv_of_pages(folder):
    """A data set of one shard of more than two pages; its images are large so that it needs few rows."""
    images = (np.arange(60)[:, None] + np.arange(120 * 120)).astype(np.uint8).reshape(-1, 120, 120)
    path = write_csv(folder / "train.csv", images, np.arange(60) % 3)
    convert(ConvertConfig(splits=(("train", path),), out=folder / "data", shards=1))
    return folder / "data"


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
    content[manifest.stride * 7 + 60] ^= 1
    shard.write_bytes(content)
    reader = ShardReader(directory, manifest, "train")
    with pytest.raises(InputError, match=f"{shard.name}: record 7 .* is damaged"):
        reader.read(np.array([[1, 5, 10]]))
    with pytest.raises(InputError, match=f"{shard.name}: record 7 .* repair {directory} --from train=train.csv"):
        reader.read_rows(0, 203)


def test_a_page_that_stands_where_another_belongs_is_seen(tmp_path):
    directory = write_csv_of_pages(tmp_path)
    manifest = load_manifest(directory)
    rows = page_rows(manifest.stride)
    shard = directory / manifest.split("train").shards[0].name
    content = shard.read_bytes()
    page = rows * manifest.stride
    shard.write_bytes(content[:page] * 2 + content[2 * page :])
    reader = ShardReader(directory, manifest, "train")
    assert len(reader.read(np.array([[0, 0, rows], [0, 2 * rows, 5]]))[0]) == rows + 5
    with pytest.raises(InputError, match=rf"records {rows} to {2 * rows - 1} are sound, but not those"):
        reader.read(np.array([[0, 2 * rows - 1, 1]]))


def test_a_file_cut_after_it_was_opened_is_named(tmp_path):
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    reader = ShardReader(directory, manifest, "train")
    shard = directory / manifest.split("train").shards[0].name
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{shard.name}: cut while it was read"):
        reader.read(np.array([[0, 0, 4]]))
