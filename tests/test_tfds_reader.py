"""Data sets that TensorFlow Datasets wrote, as small ones on disk; nothing is downloaded."""

import sys

import numpy as np
import pytest

from pipeline.convert.read_options import ReadOptions
from pipeline.convert.tfrecords.config import ImportConfig
from pipeline.convert.tfrecords.importer import import_dataset
from pipeline.errors import InputError
from tests.helpers import faults
from tests.helpers.containers import COLOR, IMAGES, LABELS
from tests.helpers.conversion import read_split

tfds = pytest.importorskip("tensorflow_datasets", reason="not installable beside TensorFlow 2.21 on Python 3.10")

NAMES = ("ondu", "eradu", "muru")
FIXED = tfds.features.Image(shape=(8, 8, 1))


def write_tfds(
    folder,
    image=FIXED,
    supervised=("image", "label"),
    pixels=lambda row: IMAGES[row][..., None],
    kind="tfrecord",
    labels=LABELS,
):
    """A data set `bars`, version 1.0.0, of 20 examples in train and 10 in test, in files of 10."""
    directory = folder / "bars/1.0.0"
    directory.mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity("bars", tfds.core.Version("1.0.0"), str(directory), "bars"),
        features=tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(names=NAMES)}),
        supervised_keys=supervised,
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10, file_format=kind)
    writer.initialize_splits(["train", "test"])
    for split, rows in (("train", range(20)), ("test", range(20, 30))):
        writer.add_examples({split: [{"image": pixels(row), "label": labels[row]} for row in rows]})
    writer.close_all()
    return directory


@pytest.mark.parametrize("given", ["directory", "parent", "name", "TFRecords", "ArrayRecord"])
def test_prepared_data_set_is_imported_with_its_class_names(tmp_path, given):
    directory = write_tfds(tmp_path / "tfds", kind="array_record" if given == "ArrayRecord" else "tfrecord")
    names = {"directory": directory, "parent": directory.parent, "name": "bars", "ArrayRecord": directory}
    options = {"tfds": str(names.get(given)), **({"data_dir": str(tmp_path / "tfds")} if given == "name" else {})}
    if given == "TFRecords":
        options = {"directory": str(directory)}
    manifest = import_dataset(ImportConfig(tmp_path / "out", **options))
    assert manifest.class_names == NAMES
    assert list(manifest.splits) == ["train", "test"]
    for split, rows in (("train", slice(0, 20)), ("test", slice(20, 30))):
        images, labels, ids = read_split(tmp_path / "out", split)
        np.testing.assert_array_equal(images.reshape(-1, 8, 8), IMAGES[rows])
        np.testing.assert_array_equal(labels, LABELS[rows])
        assert ids.tolist() == list(range(len(images)))


def test_labels_of_minus_one_are_hidden_ones(tmp_path):
    hidden = [*LABELS[:20], *[-1] * 10]
    directory = write_tfds(tmp_path / "all", labels=hidden)
    manifest = import_dataset(ImportConfig(tmp_path / "out", tfds=str(directory)))
    assert [manifest.split(name).labelled for name in ("train", "test")] == [True, False]
    directory = write_tfds(tmp_path / "some", labels=[*hidden[:-1], 0])
    with pytest.raises(InputError, match=r"example 0 .*: label -1 is negative"):
        import_dataset(ImportConfig(tmp_path / "second", tfds=str(directory)))


def test_validation_split_and_resizing(tmp_path):
    sizes = tfds.features.Image(shape=(None, None, 3))
    directory = write_tfds(tmp_path, sizes, None, pixels=lambda row: COLOR[row][: 5 + row % 3])
    with pytest.raises(InputError, match="its images differ in size; resize them with --image-size H W"):
        import_dataset(ImportConfig(tmp_path / "out", tfds=str(directory)))
    read = ReadOptions(image_size=(8, 8), channels=1)
    config = ImportConfig(tmp_path / "out", tfds=str(directory), read=read, val_fraction=0.5)
    manifest = import_dataset(config)
    assert manifest.image_shape == (8, 8, 1)
    assert {name: split.num_examples for name, split in manifest.splits.items()} == {"train": 11, "val": 9, "test": 10}


def test_unknown_names_are_one_line(tmp_path):
    directory = write_tfds(tmp_path)
    with pytest.raises(InputError, match=r"no feature 'photo' for --image-key; it has image \(Image\), label"):
        import_dataset(ImportConfig(tmp_path / "out", tfds=str(directory), image_key="photo"))
    with pytest.raises(InputError, match="--tfds no_such_data: TensorFlow Datasets cannot prepare it: ") as caught:
        import_dataset(ImportConfig(tmp_path / "out", tfds="no_such_data"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no data set of TensorFlow Datasets; those within: none"):
        import_dataset(_empty(tmp_path))


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_corrupt_file_is_one_line(tmp_path, kind):
    directory = write_tfds(tmp_path, kind=kind)
    faults.cut(directory / f"bars-test.{kind}-00000", 100)
    with pytest.raises(InputError, match="bars/1.0.0, split 'test': TensorFlow Datasets cannot read it: ") as caught:
        import_dataset(ImportConfig(tmp_path / "out", tfds=str(directory)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_tensorflow_datasets_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(
        InputError, match="--tfds needs TensorFlow Datasets; run: python -m pip install tensorflow-datasets"
    ):
        import_dataset(ImportConfig(tmp_path / "out", tfds="mnist"))


def _empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return ImportConfig(tmp_path / "out", tfds=str(tmp_path / "empty"))
