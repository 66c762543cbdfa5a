import os

import msgspec
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.format import shards
from pipeline.format.manifest import load_manifest
from pipeline.format.records import RecordLayout, page_rows
from pipeline.format.shards import ShardReader, ShardWriter
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


def test_shard_cut_on_a_record_boundary_is_refused(dataset):
    directory, manifest, path = dataset
    faults.cut_on_boundary(path, manifest.stride, 59)
    with pytest.raises(InputError, match=rf"{path.name}: .* bytes, expected .* \(60 records\); repair with"):
        open_shard(directory, manifest)


@pytest.mark.parametrize(("byte", "record"), [(0, 5), (60, 5), (-1, 4)], ids=["frame", "pixel", "last byte"])
def test_flipped_bit_is_named_with_its_record(dataset, byte, record):
    directory, manifest, path = dataset
    faults.flip_bit(path, manifest.stride * 5 + byte)
    with pytest.raises(InputError, match=rf"{path.name}: record {record} \(counted from 0\) is corrupt; repair with"):
        open_shard(directory, manifest).read(0, 60)


def test_moved_page_is_detected_when_it_is_read(dataset):
    directory, manifest, path = dataset
    rows = page_rows(manifest.stride)
    data, page = path.read_bytes(), rows * manifest.stride
    path.write_bytes(data[:page] * 2 + data[2 * page :])
    reader = open_shard(directory, manifest)
    assert len(reader.read(0, rows)[2]) == rows
    with pytest.raises(InputError, match=rf"records {rows} to {2 * rows - 1} are valid, but not the ones written"):
        reader.read(2 * rows - 1, 1)


def test_file_truncated_after_opening_is_named(dataset):
    directory, manifest, path = dataset
    reader = open_shard(directory, manifest)
    faults.cut(path, 100)
    with pytest.raises(InputError, match=f"{path.name}: truncated while it was read"):
        reader.read(0, 4)


def test_class_that_the_manifest_does_not_list_is_refused(dataset):
    directory, manifest, path = dataset
    fewer = msgspec.structs.replace(manifest, class_names=("0", "1"))
    with pytest.raises(InputError, match=rf"{path.name}: record 2 has class 2, which the manifest does not list"):
        open_shard(directory, fewer).read(0, 60)


def test_labels_in_an_unlabelled_split_are_refused(dataset):
    directory, manifest, path = dataset
    split = msgspec.structs.replace(manifest.split("train"), class_counts=())
    with pytest.raises(InputError, match="record 0 has class 0"):
        ShardReader(directory, manifest, split, split.shards[0]).read(0, 60)


@pytest.mark.parametrize("portion", [1, 7, 60])
def test_shard_does_not_depend_on_the_portions_it_is_written_in(dataset, tmp_path, monkeypatch, portion):
    _, manifest, path = dataset
    monkeypatch.setattr(shards, "_FLUSH_BYTES", 50_000)
    records = np.fromfile(path, np.uint8).reshape(ROWS, manifest.stride)
    with ShardWriter(tmp_path / path.name, manifest.stride) as writer:
        for start in range(0, ROWS, portion):
            writer.append(records[start : start + portion])
        shard = writer.finish()
    assert shard == manifest.split("train").shards[0]
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_finish_flushes_to_the_disk(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    layout = RecordLayout(4)
    with ShardWriter(tmp_path / "a.tfrecord", layout.stride) as writer:
        writer.append(layout.encode(np.zeros((3, 4), np.uint8), np.zeros(3, np.int64), np.arange(3)))
        shard = writer.finish()
    assert sizes == [shard.num_bytes] == [3 * layout.stride]


@pytest.mark.parametrize("flush", [1, 10**9], ids=["flushed in between", "flushed at the end"])
def test_failed_flush_fails_the_shard_and_leaves_the_file_to_the_caller(tmp_path, monkeypatch, flush):
    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shards, "_FLUSH_BYTES", flush)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"), ShardWriter(tmp_path / "a.tfrecord", 8) as writer:
        writer.append(np.zeros((3, 8), np.uint8))
        writer.finish()
    assert (tmp_path / "a.tfrecord").exists()
