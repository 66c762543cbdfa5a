import bz2
import gzip
import hashlib
import io
import lzma
import zipfile

import numpy as np
import pytest

from pipeline.convert import converter, plan
from pipeline.convert.csv import reader as csv_reader
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from tests.helpers.conversion import (
    all_bytes,
    convert_texts,
    left_over,
    read_split,
    table,
)


def assert_same_rows(directory, other):
    names = sorted(load_manifest(directory).splits)
    assert sorted(load_manifest(other).splits) == names
    for name in names:
        for values, expected in zip(read_split(directory, name), read_split(other, name), strict=True):
            np.testing.assert_array_equal(values, expected)


def test_rows_keep_their_order_labels_and_numbers(tmp_path):
    manifest = convert_texts(tmp_path, {"train": table(1000)}, shards=7)
    images, labels, ids = read_split(tmp_path / "data", "train")
    k = np.arange(1000)
    np.testing.assert_array_equal(images, np.stack([k % 256, k // 256, k * 0 + 7, 255 - k % 256], axis=1))
    np.testing.assert_array_equal(labels, k % 3)
    np.testing.assert_array_equal(ids, k)
    assert manifest == load_manifest(tmp_path / "data")
    assert manifest.split("train").class_counts == (334, 333, 333)
    assert [(source.split, source.name, source.num_rows) for source in manifest.sources] == [
        ("train", "train0.csv", 1000)
    ]
    assert [shard.num_examples for shard in manifest.split("train").shards] == [142, 143, 143, 143, 143, 143, 143]


TEXTS = {"train": [table(300), table(111)], "test": table(100, "id", lambda k: k + 9)}
FORMS = [
    {"shards": 1},
    {"shards": 3, "block_bytes": 100},
    {"shards": 8, "block_bytes": 1000, "workers": 2},
    {"shards": 40, "block_bytes": 77},
    {"shards": 2, "workers": 1},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scan_bytes", [300, 1 << 20])
def test_rows_do_not_depend_on_shards_blocks_or_threads(tmp_path, monkeypatch, form, scan_bytes):
    expected = convert_texts(tmp_path, TEXTS, "expected", val_fraction=0.2, seed=5)
    monkeypatch.setattr(csv_reader, "SCAN_BYTES", scan_bytes)
    manifest = convert_texts(tmp_path, TEXTS, val_fraction=0.2, seed=5, **form)
    assert_same_rows(tmp_path / "data", tmp_path / "expected")
    assert (manifest.pixel_mean, manifest.pixel_std) == (expected.pixel_mean, expected.pixel_std)
    assert manifest.planned_shards == {"train": form["shards"], "test": min(form["shards"], 100)}


def test_processes_write_the_same_bytes(tmp_path, monkeypatch):
    texts = {**TEXTS, "extra": gzip.compress(table(50).encode())}
    options = {"shards": 4, "val_fraction": 0.2, "block_bytes": 1000}
    convert_texts(tmp_path, texts, "expected/data", workers=1, **options)  # in another place, too
    progress = []
    monkeypatch.setattr(converter, "_SMALL_BYTES", 0)
    convert_texts(tmp_path, texts, workers=2, on_progress=lambda *counts: progress.append(counts), **options)
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "expected" / "data")
    assert progress[-1] == (561, 561)


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return file.getvalue()


def zstd(data):
    return pytest.importorskip("backports.zstd").compress(data)


@pytest.mark.parametrize("pack", [gzip.compress, zipped, bz2.compress, lzma.compress, zstd])
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_compressed_files_give_the_same_rows(tmp_path, pack, shards):
    options = {"val_fraction": 0.2, "seed": 5, "shards": shards, "block_bytes": 1000}
    expected = convert_texts(tmp_path, TEXTS, "expected", **options)
    first, second = TEXTS["train"]
    for k, train in enumerate(([pack(first.encode()), second], [first, pack(second.encode())])):
        manifest = convert_texts(tmp_path, {**TEXTS, "train": train}, f"data{k}", **options)
        assert_same_rows(tmp_path / f"data{k}", tmp_path / "expected")
        assert len(manifest.split("train").shards) == len(expected.split("train").shards)


def test_validation_rows_stay_those_of_the_first_version(tmp_path):
    # Computed by commit 9987fd5: a change here changes what everybody validates on, and so every trained weight.
    texts = {"train": [table(rows, value=lambda k: k * k % 7 * 4 + 1) for rows in (1000, 510)]}
    for options, count, digest, mean in (
        ({}, 151, "c78a10074fb8f4de", 65.78495217071377),
        ({"val_group_size": 50}, 150, "84833d823be235f8", 65.76985294117647),
    ):
        manifest = convert_texts(tmp_path, texts, overwrite=True, shards=1, val_fraction=0.1, seed=3, **options)
        assert (manifest.split("val").num_examples, manifest.pixel_mean) == (count, (mean,))
        data = (tmp_path / "data" / manifest.split("val").shards[0].name).read_bytes()
        assert hashlib.sha256(data).hexdigest().startswith(digest)


def test_mean_and_std_are_those_of_train_without_validation(tmp_path):
    manifest = convert_texts(tmp_path, {"test": table(10), "train": table(999)}, val_fraction=0.3)
    images, _, _ = read_split(tmp_path / "data", "train")
    assert manifest.pixel_mean == pytest.approx((images.mean(),), rel=1e-12)
    assert manifest.pixel_std == pytest.approx((images.std(),), rel=1e-12)


def test_color_images_have_statistics_per_channel(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (300, 18))
    rows = "\n".join(",".join(map(str, [k % 2, *row])) for k, row in enumerate(values.tolist()))
    text = "label," + ",".join(f"x{k}" for k in range(18)) + "\n" + rows
    manifest = convert_texts(tmp_path, {"train": text}, image_shape=(2, 3, 3))
    assert manifest.image_shape == (2, 3, 3)
    np.testing.assert_allclose(manifest.pixel_mean, values.reshape(-1, 3).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(manifest.pixel_std, values.reshape(-1, 3).std(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(read_split(tmp_path / "data", "train")[0], values)


def test_labels_with_a_gap_become_classes_that_keep_their_names(tmp_path):
    letters = [0, 1, 8, 10, 24]
    train = table(40, value=lambda k: letters[k % 4 + 1])
    texts = {"train": train, "test": table(3, value=lambda _: 0)}
    manifest = convert_texts(tmp_path, texts, shards=2, val_fraction=0.1)
    assert manifest.class_names == ("0", "1", "8", "10", "24")
    assert manifest.split("train").class_counts == (0, 9, 9, 9, 9)
    assert manifest.split("test").class_counts == (3, 0, 0, 0, 0)
    _, labels, ids = read_split(tmp_path / "data", "train")
    np.testing.assert_array_equal(labels, ids % 4 + 1)
    assert len(list((tmp_path / "data").glob("*.tfrecord-*"))) == 6


def test_ids_are_kept_and_a_split_may_have_no_labels(tmp_path):
    manifest = convert_texts(tmp_path, {"train": table(9), "test": table(9, "id", lambda k: 100 - k)})
    _, labels, ids = read_split(tmp_path / "data", "test")
    assert ids.tolist() == [100 - k for k in range(9)]
    assert set(labels) == {-1}
    assert not manifest.split("test").labelled
    assert convert_texts(tmp_path, {"test": table(3, "id")}, "unlabelled").class_names == ()


def test_blank_lines_need_no_space(tmp_path, monkeypatch):
    text = table(50) + "\n" * 1_000_000
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 51 * 84}))
    convert_texts(tmp_path, {"train": gzip.compress(text.encode()), "test": table(1)[:-1] + "\n" * 100_000})
    assert len(read_split(tmp_path / "data", "train")[2]) == 50


@pytest.mark.parametrize("value", [2**32, 2**63 - 1])
def test_largest_labels_and_ids_and_groups(tmp_path, value):
    texts = {
        "train": [table(9, value=lambda k: value * (k % 2)), table(9)],
        "test": table(2, "id", lambda k: value - k),
    }
    manifest = convert_texts(tmp_path, texts, val_fraction=0.5, val_group_size=2**63 - 1, seed=1)
    assert manifest.class_names == ("0", "1", "2", str(value))
    assert read_split(tmp_path / "data", "test")[2].tolist() == [value, value - 1]
    assert manifest.split("val").num_examples == 9


def test_as_many_labels_as_a_manifest_holds_convert_and_more_are_refused(tmp_path, monkeypatch):
    texts = {"train": table(600), "test": table(600)}
    labels = {name: table(600, value=lambda k, first=first: first + k) for name, first in (("train", 0), ("test", 600))}
    monkeypatch.setattr(plan, "MAX_CLASSES", 1000)
    with pytest.raises(InputError, match="over 1,000 different labels"):
        convert_texts(tmp_path, labels)
    assert left_over(tmp_path) == []
    monkeypatch.setattr(plan, "MAX_CLASSES", 1200)
    manifest = convert_texts(tmp_path, {**texts, **labels})
    assert load_manifest(tmp_path / "data") == manifest
    assert manifest.num_classes == 1200


@pytest.mark.parametrize("field", ["MAX_CLASSES", "_MAX_FILE_BYTES"])
def test_what_a_reader_would_refuse_is_not_published(tmp_path, monkeypatch, field):
    monkeypatch.setattr(f"pipeline.format.manifest.{field}", 1000)
    if field == "MAX_CLASSES":
        monkeypatch.setattr(plan, "MAX_CLASSES", 1000)
    with pytest.raises(InputError, match="over"):
        convert_texts(tmp_path, {"train": table(1001, value=lambda k: k)})
    assert left_over(tmp_path) == []


# Interrupted conversions


def test_tensorflow_datasets_reads_the_directory(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="not installable beside TensorFlow 2.21 on Python 3.10")

    texts = {"train": table(20, value=lambda k: 5 + k % 3 * 2), "test": table(6, "id", lambda k: k + 40)}
    convert_texts(tmp_path, texts, shards=3)
    builder = tfds.builder_from_directory(tmp_path / "data")
    assert builder.info.features["label"].names == ["5", "7", "9"]
    read = {int(example["id"]): example for example in builder.as_dataset(split="train").as_numpy_iterator()}
    assert sorted(read) == list(range(20))
    assert read[10]["image"].dtype == np.uint8
    assert read[10]["image"].tolist() == [[[10], [0]], [[7], [245]]]
    assert read[10]["label"] == 1
    test = builder.as_dataset(split="test").as_numpy_iterator()
    assert sorted((int(example["id"]), int(example["label"])) for example in test) == [(40 + k, -1) for k in range(6)]
