"""Records are written by TensorFlow and by TensorFlow Datasets themselves, so that their lengths vary as theirs do."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.convert import importer
from pipeline.convert.importer import import_tfrecords
from pipeline.errors import InputError
from pipeline.feed.dataset import Position, Replicas, make_resident_dataset
from pipeline.feed.order import Steps
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest
from pipeline.format.verify import inspect
from tests.helpers.datasets import bars
from tools import import_tfrecord

IMAGES, LABELS = bars(range(203))


def int64(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))


def record(image, **numbers):
    features = {key: int64(value) for key, value in numbers.items()}
    if image is not None:
        features["image"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for each in records:
            writer.write(each)


def digit_records():
    rows = zip(IMAGES, LABELS, strict=True)
    return [record(image.tobytes(), label=label, id=row) for row, (image, label) in enumerate(rows)]


@pytest.fixture
def foreign(tmp_path):
    """A folder with the rows of the fixture `digits` in three files of TensorFlow's own records."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    records = digit_records()
    for shard, part in enumerate((slice(0, 50), slice(50, 190), slice(190, None))):
        write(folder / f"digits-train.tfrecord-{shard:05d}-of-00003", records[part])
    return folder


def test_batches_are_those_of_the_same_rows_from_a_csv(foreign, tmp_path, digits):
    manifest = import_tfrecords(foreign, tmp_path / "out", shards=3)
    assert not list(inspect(tmp_path / "out", manifest).lines())
    steps, at = Steps(203, 16, 4), Position(0, 0, 2)
    feeds = [
        make_resident_dataset(load_split(folder, load_manifest(folder), "train"), steps, 5, at, Replicas())
        for folder in (digits, tmp_path / "out")
    ]
    compared = 0
    for ours, theirs in zip(*(feed.as_numpy_iterator() for feed in feeds), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
        compared += 1
    assert compared == 2 * 4


def test_the_shards_are_byte_for_byte_those_of_the_converter(foreign, tmp_path, digits):
    manifest = import_tfrecords(foreign, tmp_path / "digits", shards=3)
    split, expected = manifest.split("train"), load_manifest(digits).split("train")
    assert split == expected
    for shard in split.shards:
        assert (tmp_path / "digits" / shard.name).read_bytes() == (digits / shard.name).read_bytes()


def test_what_tensorflow_datasets_made_with_png_images_and_class_names(tmp_path):
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
    write(folder / "bars-train.tfrecord-00000-of-00001", records)
    features.save_metadata(folder, feature_name=None)
    manifest = import_tfrecords(folder, tmp_path / "out")
    assert manifest.class_names == ("ondu", "eradu", "muru")
    arrays = load_split(tmp_path / "out", manifest, "train")
    np.testing.assert_array_equal(arrays.images.reshape(IMAGES.shape), IMAGES)
    np.testing.assert_array_equal(arrays.labels, LABELS)
    np.testing.assert_array_equal(arrays.ids, np.arange(203))


def test_records_without_labels_are_a_split_to_predict(tmp_path):
    write(tmp_path / "train.tfrecord", digit_records())
    write(tmp_path / "test.tfrecord", [record(image.tobytes()) for image in IMAGES[:9]])
    manifest = import_tfrecords(tmp_path, tmp_path / "out")
    assert not manifest.split("test").labelled
    assert list(manifest.splits) == ["train", "test"]
    assert load_split(tmp_path / "out", manifest, "test").ids.tolist() == list(range(9))


def test_pixel_statistics_are_those_of_train(foreign, tmp_path):
    manifest = import_tfrecords(foreign, tmp_path / "out")
    assert manifest.pixel_mean == pytest.approx((IMAGES.mean(),))
    assert manifest.pixel_std == pytest.approx((IMAGES.std(),))


GOOD = IMAGES[0].tobytes()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(GOOD, label=1), record(None, label=1)], r"train.tfrecord: record 1 \(counted from 0\) is no example"),
        (
            [record(GOOD, label=1), record(GOOD[1:], label=1)],
            r"record 1 .*: an image of 63 bytes, expected 64 or a PNG",
        ),
        ([record(GOOD, label=1), record(b"\x89PNG" + GOOD, label=1)], r"record 1 .*: its image cannot be decoded"),
        ([record(GOOD, label=1), record(GOOD)], "some records have a label and some have none"),
        ([record(GOOD, label=1, id=4), record(GOOD, label=1, id=4)], "records 0 and 1 have the id 4"),
        ([record(GOOD, label=1, id=4), record(GOOD, label=1)], "some records have an id and some have none"),
        ([record(GOOD, label=-7)], "label -7 is no class index"),
        ([record(GOOD, label=10**9)], "label 1000000000 is no class index"),
        ([record(GOOD[:63], label=1)], "give --image-shape H W C"),
        ([b"not an example"], "record 0 .* is no example"),
        ([], "holds no record"),
    ],
)
def test_what_cannot_be_taken_is_one_line_and_nothing_is_written(tmp_path, records, message):
    write(tmp_path / "train.tfrecord", records)
    with pytest.raises(InputError, match=message) as caught:
        import_tfrecords(tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["train.tfrecord"]


def test_a_damaged_record_is_named(foreign, tmp_path):
    path = foreign / "digits-train.tfrecord-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"00001-of-00003: record (69|70|71) \(counted from 0\) is damaged"):
        import_tfrecords(foreign, tmp_path / "out")


def test_a_missing_file_is_named(foreign, tmp_path):
    (foreign / "digits-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(InputError, match="split 'train': shard 1 is missing"):
        import_tfrecords(foreign, tmp_path / "out")


def test_the_command_prints_what_it_made(foreign, tmp_path, capsys):
    assert import_tfrecord.main([str(foreign), "--out", str(tmp_path / "out"), "--shards", "2"]) == 0
    assert "out: 203 images of 8 x 8 x 1, 3 classes" in capsys.readouterr().out
    with pytest.raises(InputError, match="exists; choose another --out"):
        import_tfrecord.main([str(foreign), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("a\nb\nc\n", ("a", "b", "c")),
        ("a\nb\nb\n", ("0", "1", "2")),
        ("a\n\nc\n", ("0", "1", "2")),
        ("a\n", ("0", "1", "2")),
    ],
)
def test_class_names_are_those_beside_the_files_where_a_manifest_can_hold_them(foreign, tmp_path, names, expected):
    (foreign / "label.labels.txt").write_text(names)
    import_tfrecords(foreign, tmp_path / "out")
    assert load_manifest(tmp_path / "out").class_names == expected


def test_more_class_names_than_a_manifest_can_hold_are_not_used(foreign, tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "MAX_CLASSES", 3)
    (foreign / "label.labels.txt").write_text("a\nb\nc\nd\n")
    assert import_tfrecords(foreign, tmp_path / "out").class_names == ("0", "1", "2")


def test_images_too_large_for_a_manifest_are_refused(foreign, tmp_path):
    with pytest.raises(InputError, match="images of 5000 x 5000 x 1; up to 16,777,216 bytes are read"):
        import_tfrecords(foreign, tmp_path / "out", image_shape=(5000, 5000, 1))
    assert not (tmp_path / "out").exists()
