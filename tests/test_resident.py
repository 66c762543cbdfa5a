import numpy as np
import pytest

from pipeline.convert.manifest import load_manifest
from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from tests.datasets import bars, write_digits


def test_rows_come_back_in_the_order_of_the_csv(digits):
    arrays = load_split(digits, load_manifest(digits), "train")
    images, labels = bars(range(203))
    np.testing.assert_array_equal(arrays.images.reshape(images.shape), images)
    np.testing.assert_array_equal(arrays.labels, labels)
    np.testing.assert_array_equal(arrays.ids, np.arange(203))


def test_an_unlabelled_split_has_label_minus_one(digits):
    assert set(load_split(digits, load_manifest(digits), "test").labels.tolist()) == {-1}


def test_an_unknown_split_is_refused_by_name(digits):
    with pytest.raises(InputError, match="no split 'dig' in digits; it has test, train, val"):
        load_split(digits, load_manifest(digits), "dig")


@pytest.fixture
def damaged(tmp_path):
    """A fresh data set, its manifest, and the first shard of train for the test to damage."""
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    return directory, manifest, directory / manifest.split("train").shards[0].name


def test_a_missing_shard_is_named(damaged):
    directory, manifest, shard = damaged
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name}: missing, though the manifest names it"):
        load_split(directory, manifest, "train")


def test_a_shard_cut_on_a_record_boundary_is_named(damaged):
    directory, manifest, shard = damaged
    shard.write_bytes(shard.read_bytes()[: -manifest.stride])
    with pytest.raises(InputError, match=rf"{shard.name}: .* bytes, expected .* \(68 records\)"):
        load_split(directory, manifest, "train")


def test_a_damaged_record_frame_is_named_by_its_number(damaged):
    directory, manifest, shard = damaged
    content = bytearray(shard.read_bytes())
    content[manifest.stride * 5] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match=f"{shard.name}: record 5 is damaged"):
        load_split(directory, manifest, "train")
