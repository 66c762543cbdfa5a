import msgspec
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from tests.helpers import faults
from tests.helpers.datasets import bars, write_digits


@pytest.fixture
def dataset(tmp_path):
    """A fresh data set, its manifest, and the shards of train for the test to change."""
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    return directory, manifest, [directory / shard.name for shard in manifest.split("train").shards]


def test_rows_are_in_the_order_of_the_csv(digits):
    arrays = load_split(digits, load_manifest(digits), "train")
    images, labels = bars(range(203))
    np.testing.assert_array_equal(arrays.images.reshape(images.shape), images)
    np.testing.assert_array_equal(arrays.labels, labels)
    np.testing.assert_array_equal(arrays.ids, np.arange(203))


def test_unlabelled_split_has_label_minus_one(digits):
    assert set(load_split(digits, load_manifest(digits), "test").labels.tolist()) == {-1}


def test_unknown_split_is_refused_by_name(digits):
    with pytest.raises(InputError, match="no split 'dig' in digits; it has test, train, val"):
        load_split(digits, load_manifest(digits), "dig")


@pytest.mark.parametrize("shard", [0, 2])
def test_missing_and_corrupt_shards_are_named(dataset, shard):
    directory, manifest, shards = dataset
    faults.flip_bit(shards[shard], manifest.stride * 5 + 60)
    with pytest.raises(InputError, match=rf"{shards[shard].name}: record 5 \(counted from 0\) is corrupt; repair with"):
        load_split(directory, manifest, "train")
    shards[shard].unlink()
    with pytest.raises(InputError, match=f"{shards[shard].name}: missing"):
        load_split(directory, manifest, "train")


def test_swapped_shards_are_detected_although_every_record_is_valid(dataset):
    directory, manifest, shards = dataset
    faults.swap(shards[0], shards[1])
    with pytest.raises(InputError, match=rf"{shards[0].name}: records 0 to 67 are valid, but not the ones"):
        load_split(directory, manifest, "train")


def test_absurd_counts_are_refused_before_memory_is_allocated(dataset):
    directory, manifest, _ = dataset
    split, count = manifest.split("train"), 10**15
    replace = msgspec.structs.replace
    shards = tuple(replace(shard, num_examples=count, num_bytes=count * manifest.stride) for shard in split.shards)
    absurd = replace(manifest, splits={"train": replace(split, num_examples=3 * count, shards=shards)})
    with pytest.raises(InputError, match="bytes, expected"):
        load_split(directory, absurd, "train")
