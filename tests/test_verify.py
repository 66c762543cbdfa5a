import msgspec
import numpy as np
import pytest

from pipeline.format.manifest import Validation, load_manifest
from pipeline.format.verify import inspect
from tests.helpers import faults
from tests.helpers.datasets import write_dataset

# What happens to the middle shard of test, which holds the ids 14 .. 26 of 40.
NAME, OTHER = "data-test.tfrecord-00001-of-00003", "data-test.tfrecord-00002-of-00003"
ALL_MISSING = "split test: missing ids: 14, 15, 16, 17, 18, ... (13 in all)"
DAMAGES = {
    "nothing": (lambda path, stride: None, []),
    "two flipped bits": (
        lambda path, stride: (faults.flip_bit(path, 2 * stride + 60), faults.flip_bit(path, 4 * stride)),
        [f"{NAME}: record 2 (counted from 0) is corrupt, 2 in all", "split test: missing ids: 16, 18"],
    ),
    "cut inside a record": (
        lambda path, stride: faults.cut_inside_record(path, stride, 11),
        [
            f"{NAME}: 966 bytes, expected 1,092: truncated inside record 11; 2 of 13 are lost",
            "split test: missing ids: 25, 26",
        ],
    ),
    "cut on a record boundary": (
        lambda path, stride: faults.cut_on_boundary(path, stride, 5),
        [
            f"{NAME}: 420 bytes, expected 1,092: truncated after record 4; 8 of 13 are lost",
            "split test: missing ids: 19, 20, 21, 22, 23, ... (8 in all)",
        ],
    ),
    "bytes at the end": (
        lambda path, stride: path.write_bytes(path.read_bytes() + b"xy"),
        [f"{NAME}: 1,094 bytes, expected 1,092: 2 too many"],
    ),
    "missing": (lambda path, stride: faults.drop(path), [f"{NAME}: missing", ALL_MISSING]),
    "a directory": (
        lambda path, stride: (faults.drop(path), path.mkdir()),
        [f"{NAME}: a directory has its name", ALL_MISSING],
    ),
    "duplicated record": (
        lambda path, stride: faults.double_record(path, stride, 1, grow=False),
        [
            f"{NAME}: records 0 to 12 are valid, but not the ones written there (duplicated or moved)",
            "split test: duplicate ids: 15",
            "split test: missing ids: 16",
        ],
    ),
    "swapped": (
        lambda path, stride: faults.swap(path, path.with_name(OTHER)),
        [
            f"{NAME}: holds the records of {OTHER}; its own are in {OTHER}",
            f"{OTHER}: holds the records of {NAME}; its own are in {NAME}",
        ],
    ),
    "copy of another": (
        lambda path, stride: path.write_bytes(path.with_name(OTHER).read_bytes()),
        [
            f"{NAME}: holds the records of {OTHER}, which has them too",
            "split test: duplicate ids: 27, 28, 29, 30, 31, ... (13 in all)",
            ALL_MISSING,
        ],
    ),
    "emptied": (
        lambda path, stride: path.write_bytes(b""),
        [f"{NAME}: 0 bytes, expected 1,092: empty; 13 of 13 are lost", ALL_MISSING],
    ),
    "renamed": (
        lambda path, stride: path.rename(path.with_name("x.tfrecord")),
        [f"{NAME}: missing; its own are in x.tfrecord", f"x.tfrecord: extra, it holds the records of {NAME}"],
    ),
    "extra": (
        lambda path, stride: path.with_name("x.tfrecord").write_bytes(b"?"),
        ["x.tfrecord: extra, the manifest does not list it"],
    ),
    "changed and missing metadata": (
        lambda path, stride: (
            path.with_name("features.json").write_text("{}"),
            faults.drop(path.with_name("label.labels.txt")),
        ),
        ["features.json: changed since it was written", "label.labels.txt: missing"],
    ),
}


@pytest.fixture
def directory(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (80, 2, 2), np.uint8)
    splits = {
        "train": (images[:40], np.arange(40) % 4 // 2, np.arange(40)),
        "test": (images[40:], np.full(40, -1), np.arange(40)),
    }
    return write_dataset(tmp_path / "data", splits, shards=3)


@pytest.mark.parametrize("damage", DAMAGES)
def test_inspection_reports_what_happened(directory, damage):
    change, expected = DAMAGES[damage]
    manifest = load_manifest(directory)
    change(directory / NAME, manifest.stride)
    inspection = inspect(directory, manifest)
    assert list(inspection.lines()) == expected
    places = {"swapped": {NAME: OTHER, OTHER: NAME}, "renamed": {NAME: "x.tfrecord"}}
    assert inspection.found_as == places.get(damage, {})


def test_ids_of_train_and_the_val_split_off_from_it_are_examined_together(tmp_path):
    images, ids = np.zeros((30, 2, 2), np.uint8), np.arange(30)
    parts = {"train": ids[9:], "val": ids[:9]}
    directory = write_dataset(tmp_path / "data", {name: (images[k], np.zeros_like(k), k) for name, k in parts.items()})
    manifest = load_manifest(directory)
    manifest = msgspec.structs.replace(manifest, sources=manifest.sources[:1], validation=Validation(0.3))
    (directory / manifest.split("val").shards[1].name).unlink()
    *_, last = inspect(directory, manifest).lines()
    assert last == "split train and val: missing ids: 5, 6, 7, 8"


@pytest.mark.parametrize(
    ("split", "counts", "name"),
    [("train", (21, 19), "class 0"), ("test", (20, 20), "class 0"), ("train", (), "labels")],
)
def test_class_counts_are_compared_with_the_labels_in_the_records(directory, split, counts, name):
    manifest = load_manifest(directory)
    wrong = msgspec.structs.replace(manifest.split(split), class_counts=counts)
    manifest = msgspec.structs.replace(manifest, splits={**manifest.splits, split: wrong})
    assert list(inspect(directory, manifest).lines()) == [
        f"split {split}: its records do not have the {name} that the manifest counts"
    ]


def test_page_checksums_without_the_sha256_show_an_edited_manifest(directory):
    manifest = load_manifest(directory)
    split = manifest.split("test")
    edited = msgspec.structs.replace(split.shards[0], sha256="0" * 64)
    split = msgspec.structs.replace(split, shards=(edited, *split.shards[1:]))
    manifest = msgspec.structs.replace(manifest, splits={"test": split})
    first = next(inspect(directory, manifest).lines())
    assert first.endswith("all pages match the manifest, but not the SHA-256, so the manifest was edited")
