"""Whole imports; tests/test_tfrecord_reader.py has what can be wrong with a single file."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.convert.config import ConvertConfig
from pipeline.convert.converter import convert
from pipeline.convert.tfrecords import importer
from pipeline.convert.tfrecords.config import ImportConfig
from pipeline.convert.tfrecords.importer import import_dataset
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from pipeline.format.verify import inspect
from tests.helpers import faults
from tests.helpers.conversion import read_split
from tests.helpers.datasets import write_csv
from tests.helpers.foreign import IMAGES, LABELS, digit_records, example, record, write_records

IMAGE = IMAGES[0].tobytes()


def import_tfrecords(directory, out, on_notice=None, **options):
    return import_dataset(ImportConfig(out, directory, **options), on_notice)


@pytest.fixture
def foreign(tmp_path):
    """A folder with the rows of the fixture `digits` in three files of TensorFlow's own records."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    records = digit_records()
    for shard, part in enumerate((slice(0, 50), slice(50, 190), slice(190, None))):
        write_records(folder / f"digits-train.tfrecord-{shard:05d}-of-00003", records[part])
    return folder


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_imported_rows_are_those_of_the_records(foreign, tmp_path, shards):
    manifest = import_tfrecords(foreign, tmp_path / "out", shards=shards)
    assert list(inspect(tmp_path / "out", manifest).lines()) == []
    assert len(manifest.split("train").shards) == shards
    images, labels, ids = read_split(tmp_path / "out", "train")
    np.testing.assert_array_equal(images.reshape(IMAGES.shape), IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(ids, np.arange(203))
    assert manifest.pixel_mean == pytest.approx((IMAGES.mean(),))
    assert manifest.pixel_std == pytest.approx((IMAGES.std(),))
    assert (manifest.sources, manifest.planned_shards) == ((), {})


def test_records_that_tensorflow_datasets_wrote_as_png_with_class_names(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="not installable beside TensorFlow 2.21 on Python 3.10")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(names=["ondu", "eradu", "muru"]),
        }
    )
    folder = tmp_path / "bars"
    folder.mkdir()
    rows = ({"image": image[..., None], "label": label} for image, label in zip(IMAGES, LABELS, strict=True))
    records = [features.serialize_example(features.encode_example(row)) for row in rows]
    assert len(set(map(len, records))) > 1
    write_records(folder / "bars-train.tfrecord-00000-of-00001", records)
    features.save_metadata(folder, feature_name=None)
    manifest = import_tfrecords(folder, tmp_path / "out")
    assert manifest.class_names == ("ondu", "eradu", "muru")
    images, labels, ids = read_split(tmp_path / "out", "train")
    np.testing.assert_array_equal(images.reshape(IMAGES.shape), IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(ids, np.arange(203))


def test_records_without_labels_are_a_split_to_predict(tmp_path):
    write_records(tmp_path / "train.tfrecord", digit_records())
    write_records(tmp_path / "test.tfrecord", [record(image.tobytes()) for image in IMAGES[:9]])
    manifest = import_tfrecords(tmp_path, tmp_path / "out")
    assert not manifest.split("test").labelled
    assert list(manifest.splits) == ["train", "test"]
    assert read_split(tmp_path / "out", "test")[2].tolist() == list(range(9))


def test_duplicate_ids_across_files_are_named(tmp_path):
    for shard, first in ((0, 0), (1, 9)):
        records = [record(IMAGE, label=1, id=first + k) for k in range(10)]
        write_records(tmp_path / f"train-{shard:05d}-of-00002", records)
    with pytest.raises(InputError) as caught:
        import_tfrecords(tmp_path, tmp_path / "out", shards=2)
    assert str(caught.value) == (
        f"{tmp_path}/train-00001-of-00002, record 0 (counted from 0): id 9 is a duplicate, also used on "
        f"{tmp_path}/train-00000-of-00002, record 9 (counted from 0); if these are not ids, give --id-key none"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("numbers", [{"label": 1}, {"id": 5}])
def test_files_of_one_split_must_agree(tmp_path, numbers):
    write_records(tmp_path / "test-00000-of-00002", [record(IMAGE, **numbers)])
    write_records(tmp_path / "test-00001-of-00002", [record(IMAGE)])
    with pytest.raises(InputError, match=f"test-00001-of-00002: has no {next(iter(numbers))}, but .*00000-of-00002 of"):
        import_tfrecords(tmp_path, tmp_path / "out")


def test_training_split_without_labels_is_refused_unless_asked_for(tmp_path):
    write_records(tmp_path / "train.tfrecord", [example({"image": IMAGE, "kind": 1})])
    with pytest.raises(InputError, match=r"no labels, which 'train' needs; choose with --label-key, .* it has .*kind"):
        import_tfrecords(tmp_path, tmp_path / "out")
    assert not import_tfrecords(tmp_path, tmp_path / "out", label_key="none").split("train").labelled


def test_names_of_splits_that_training_does_not_use_are_reported(tmp_path):
    write_records(tmp_path / "data.tfrecord", [record(IMAGE, label=1)])
    notes = []
    import_dataset(ImportConfig(tmp_path / "out", directory=str(tmp_path)), notes.append)
    assert "no split is called 'train', which train.py trains on; there is 'data'" in notes


def test_corrupt_record_is_named_and_nothing_is_written(foreign, tmp_path):
    faults.flip_bit(foreign / "digits-train.tfrecord-00001-of-00003", 10_000)
    with pytest.raises(InputError, match=r"00001-of-00003, record \d+ \(counted from 0\): corrupt or truncated"):
        import_tfrecords(foreign, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\nc\n", ("a", "b", "c")),
        ("a\nb\nc\nd\n", ("a", "b", "c", "d")),
        ("a\nb\nb\n", ("0", "1", "2")),
        ("a\n\nc\n", ("0", "1", "2")),
        ("a\n", ("0", "1", "2")),
    ],
)
def test_class_names_are_those_beside_the_files_if_valid(foreign, tmp_path, text, expected):
    (foreign / "label.labels.txt").write_text(text)
    import_tfrecords(foreign, tmp_path / "out")
    assert load_manifest(tmp_path / "out").class_names == expected


def test_labels_file_that_is_not_utf8_is_one_line(foreign, tmp_path):
    (foreign / "label.labels.txt").write_bytes(b"caf\xe9\nb\nc\n")
    with pytest.raises(InputError, match="label.labels.txt: not UTF-8 text; fix or remove it"):
        import_tfrecords(foreign, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_class_names_than_a_manifest_can_hold_are_not_used(foreign, tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "MAX_CLASSES", 3)
    (foreign / "label.labels.txt").write_text("a\nb\nc\nd\n")
    assert import_tfrecords(foreign, tmp_path / "out").class_names == ("0", "1", "2")


def test_names_as_labels_become_classes_over_all_splits(tmp_path):
    image = tf.io.encode_png(IMAGES[0][..., None]).numpy()
    for split, names in (("train", ("cat", "ant")), ("validation", ("bee",))):
        folder = tmp_path / "in" / split
        folder.mkdir(parents=True)
        write_records(folder / "00.tfrec", [example({"image": image, "class": name.encode()}) for name in names])
    notices = []
    manifest = import_tfrecords(tmp_path / "in", tmp_path / "out", notices.append)
    assert manifest.class_names == ("ant", "bee", "cat")
    assert read_split(tmp_path / "out", "train")[1].tolist() == [2, 0]
    assert read_split(tmp_path / "out", "val")[1].tolist() == [1]
    assert notices == [
        "images from feature image, labels from class, ids from none",
        "split 'validation' is stored as 'val', the name that train.py looks for",
        "labels are names, which become classes in this order: 'ant', 'bee', 'cat'",
    ]


def test_text_ids_are_kept_and_duplicates_named(tmp_path):
    def write(names):
        write_records(
            tmp_path / "train.tfrecord", [example({"image": IMAGE, "label": 0, "id": name}) for name in names]
        )

    write([b"x", b"y"])
    import_tfrecords(tmp_path, tmp_path / "out")
    assert (tmp_path / "out/train.ids.txt").read_text() == "x\ny\n"
    write([b"x", b"x"])
    with pytest.raises(
        InputError, match="record 1 .*: id 'x' is a duplicate, .* if these are not ids, give --id-key none"
    ):
        import_tfrecords(tmp_path, tmp_path / "other")


def test_validation_split_is_taken_as_by_the_converter(foreign, tmp_path):
    manifest = import_tfrecords(foreign, tmp_path / "out", val_fraction=0.2, seed=5)
    csv = tmp_path / "train.csv"
    write_csv(csv, IMAGES, LABELS)
    expected = convert(ConvertConfig((("train", csv),), tmp_path / "csv", val_fraction=0.2, seed=5))
    assert manifest.validation == expected.validation
    for split in ("train", "val"):
        ours, theirs = (read_split(tmp_path / name, split) for name in ("out", "csv"))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)
    write_records(foreign / "val.tfrecord", [record(IMAGE)])
    with pytest.raises(
        InputError, match="--val-fraction takes rows out of 'train' for a new split 'val'; the data have"
    ):
        import_tfrecords(foreign, tmp_path / "other", val_fraction=0.2)
