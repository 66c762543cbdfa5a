import dataclasses

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from tests.helpers.datasets import bars, write_digits


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


@pytest.mark.parametrize("at", [0, 60, -1], ids=["frame", "pixel", "last byte"])
def test_a_flipped_bit_is_named_with_its_record_and_the_command_that_mends_it(damaged, at):
    directory, manifest, shard = damaged
    content = bytearray(shard.read_bytes())
    content[manifest.stride * 5 + at] ^= 1
    shard.write_bytes(content)
    record = 5 if at >= 0 else 4
    with pytest.raises(InputError) as caught:
        load_split(directory, manifest, "train")
    assert str(caught.value) == (
        f"{shard}: record {record} (counted from 0) is damaged; "
        f"mend with: python tools/inspect_tfrecord.py repair {directory} --from train=train.csv"
    )


def test_swapped_shards_and_doubled_records_are_seen_though_every_record_is_sound(damaged):
    directory, manifest, shard = damaged
    other = directory / manifest.split("train").shards[1].name
    first, second = shard.read_bytes(), other.read_bytes()
    for content in (second, first[: manifest.stride] * 2 + first[2 * manifest.stride :]):
        shard.write_bytes(content)
        with pytest.raises(InputError, match=rf"{shard.name}: records 0 to 67 are sound, but not those"):
            load_split(directory, manifest, "train")


def test_absurd_counts_are_refused_before_memory_is_taken(damaged):
    directory, manifest, _ = damaged
    split = manifest.split("train")
    shards = tuple(
        dataclasses.replace(shard, num_examples=10**15, num_bytes=10**15 * manifest.stride) for shard in split.shards
    )
    absurd = dataclasses.replace(split, num_examples=3 * 10**15, shards=shards)
    with pytest.raises(InputError, match="bytes, expected"):
        load_split(directory, dataclasses.replace(manifest, splits={"train": absurd}), "train")


def test_a_class_that_the_manifest_has_not_is_refused(damaged):
    directory, manifest, _ = damaged
    with pytest.raises(InputError, match=r"train.tfrecord-0000\d.*: record \d has class 2, which"):
        load_split(directory, dataclasses.replace(manifest, class_names=("0", "1")), "train")
