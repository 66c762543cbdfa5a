import hashlib
import os

import google_crc32c
import msgspec
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.format import shards
from pipeline.format.manifest import load_manifest
from pipeline.format.records import RecordLayout, page_rows
from pipeline.format.shards import ShardReader, ShardWriter, repair_command
from tests.helpers import faults
from tests.helpers.datasets import write_dataset

ROWS = 60
SIDE = 120  # so that a page has 18 rows, and the one shard has four pages


@pytest.fixture
def dataset(tmp_path):
    """A data set with the one shard of 60 large images, its manifest and the shard's path."""
    images = (np.arange(ROWS)[:, None] + np.arange(SIDE * SIDE)).astype(np.uint8).reshape(-1, SIDE, SIDE)
    directory = write_dataset(tmp_path / "data", {"train": (images, np.arange(ROWS) % 3, np.arange(ROWS))}, shards=1)
    manifest = load_manifest(directory)
    return directory, manifest, directory / manifest.split("train").shards[0].name


def open_shard(directory, manifest):
    split = manifest.split("train")
    return ShardReader(directory, manifest, split, split.shards[0])


@pytest.mark.parametrize(("first", "count"), [(0, 60), (0, 1), (17, 2), (18, 18), (59, 1), (20, 0)])
def test_any_run_of_records_can_be_read(dataset, first, count):
    directory, manifest, _ = dataset
    images, labels, ids = open_shard(directory, manifest).read(first, count)
    rows = np.arange(first, first + count)
    assert ids.tolist() == rows.tolist()
    assert labels.tolist() == (rows % 3).tolist()
    np.testing.assert_array_equal(images[:, 0], rows)


def test_missing_shard_is_named_with_the_command_that_repairs_it(dataset):
    directory, manifest, path = dataset
    path.unlink()
    with pytest.raises(InputError) as caught:
        open_shard(directory, manifest)
    assert str(caught.value) == (
        f"{path}: missing, though the manifest lists it; "
        f"repair with: python tools/inspect_tfrecord.py repair {directory} --from train=train.csv"
    )


def test_repair_command_names_the_sources(dataset):
    _, manifest, _ = dataset
    assert repair_command(manifest, "a b", "train") == (
        "python tools/inspect_tfrecord.py repair 'a b' --from train=train.csv"
    )
    source = msgspec.structs.replace(manifest.sources[0], name="a\nb")
    unprintable = msgspec.structs.replace(manifest, sources=(source,))
    assert repair_command(unprintable, "d", "train").endswith("repair d --from train=FILE")


STRIDE = RecordLayout(SIDE * SIDE).stride
PAGE = STRIDE * page_rows(STRIDE)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda path: faults.cut(path, 59 * STRIDE), r"[0-9]+ bytes, expected [0-9]+ \(60 records\); repair with"),
        (lambda path: faults.flip_bit(path, STRIDE * 25), r"record 25 \(counted from 0\) is corrupt; repair with"),
        (lambda path: faults.flip_bit(path, STRIDE * 25 + 60), r"record 25 \(counted from 0\) is corrupt"),
        (lambda path: faults.flip_bit(path, STRIDE * 25 - 1), r"record 24 \(counted from 0\) is corrupt"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:PAGE] * 2 + path.read_bytes()[2 * PAGE :]),
            r"records 18 to 35 are valid, but not the ones written there \(a file swapped, or records duplicated or m",
        ),
    ],
    ids=["cut on a boundary", "bit of a frame", "bit of a pixel", "last bit", "moved page"],
)
def test_fault_is_named_when_its_page_is_read(dataset, fault, message):
    directory, manifest, path = dataset
    fault(path)
    with pytest.raises(InputError, match=f"{path.name}: {message}"):
        reader = open_shard(directory, manifest)
        assert len(reader.read(0, 18)[2]) == 18
        reader.read(35, 1)


def test_file_truncated_after_opening_is_named(dataset):
    directory, manifest, path = dataset
    reader = open_shard(directory, manifest)
    faults.cut(path, 100)
    with pytest.raises(InputError, match=f"{path.name}: truncated while it was read"):
        reader.read(0, 4)


def test_labels_that_the_manifest_does_not_list_are_refused(dataset):
    directory, manifest, path = dataset
    fewer = msgspec.structs.replace(manifest, class_names=("0", "1"))
    with pytest.raises(InputError, match=rf"{path.name}: record 2 has class 2, which the manifest does not list"):
        open_shard(directory, fewer).read(0, 60)
    unlabelled = msgspec.structs.replace(manifest.split("train"), class_counts=())
    with pytest.raises(InputError, match="record 0 has class 0"):
        ShardReader(directory, manifest, unlabelled, unlabelled.shards[0]).read(0, 60)


@pytest.mark.parametrize("portion", [1, 7, 60])
def test_checksums_do_not_depend_on_the_portions_a_shard_is_written_in(dataset, tmp_path, monkeypatch, portion):
    _, manifest, path = dataset
    monkeypatch.setattr(shards, "_FLUSH_BYTES", 50_000)
    data = path.read_bytes()
    with ShardWriter(tmp_path / "a.tfrecord", STRIDE) as writer:
        for start in range(0, ROWS, portion):
            writer.append(np.frombuffer(data, np.uint8).reshape(ROWS, STRIDE)[start : start + portion])
        shard = writer.finish()
    assert (tmp_path / "a.tfrecord").read_bytes() == data
    assert (shard.num_examples, shard.num_bytes) == (ROWS, len(data))
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    pages = [google_crc32c.value(data[start : start + PAGE]) for start in range(0, len(data), PAGE)]
    assert manifest.page_crcs(shard).tolist() == pages


@pytest.mark.parametrize("flush", [1, 10**9], ids=["flushed in between", "flushed at the end"])
def test_shard_is_flushed_and_a_failed_flush_leaves_the_file_to_the_caller(tmp_path, monkeypatch, flush):
    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shards, "_FLUSH_BYTES", flush)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"), ShardWriter(tmp_path / "a.tfrecord", 8) as writer:
        writer.append(np.zeros((3, 8), np.uint8))
        writer.finish()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(".a.tfrecord.") and path.stat().st_size == 24
