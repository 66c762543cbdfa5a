import numpy as np
import pytest

from pipeline.format.manifest import load_manifest
from pipeline.format.tfds_metadata import LABELS_FILE, metadata_files, shard_name
from tests.helpers.datasets import bars, write_dataset


@pytest.fixture
def tfds():
    return pytest.importorskip("tensorflow_datasets", reason="not installable beside TensorFlow 2.21 on Python 3.10")


def test_shards_are_named_as_tfds_names_them():
    assert shard_name("digits", "train", 3, 12) == "digits-train.tfrecord-00003-of-00012"


def test_tfds_reads_every_split_in_order(tfds, digits):
    builder = tfds.builder_from_directory(digits)
    assert builder.info.splits["val"].num_examples == 50
    assert builder.info.features["label"].names == ["0", "1", "2"]
    read = tfds.ReadConfig(interleave_cycle_length=1)
    examples = list(builder.as_dataset(split="train", read_config=read).as_numpy_iterator())
    images, labels = bars(range(203))
    np.testing.assert_array_equal([example["image"][..., 0] for example in examples], images)
    np.testing.assert_array_equal([example["label"] for example in examples], labels)
    assert [example["id"] for example in examples] == list(range(203))


def test_tfds_reads_a_data_set_without_labels(tfds, tmp_path):
    rows = (bars(range(9))[0], np.full(9, -1), np.arange(9))
    directory = write_dataset(tmp_path / "plain", {"test": rows})
    assert LABELS_FILE not in metadata_files(load_manifest(directory))
    examples = tfds.builder_from_directory(directory).as_dataset(split="test")
    assert {int(example["label"]) for example in examples} == {-1}


def test_tfds_gives_pairs_of_image_and_label(tfds, digits):
    pairs = list(tfds.builder_from_directory(digits).as_dataset(split="val", as_supervised=True).as_numpy_iterator())
    images, labels = bars(range(203, 253))
    assert sorted(label for _, label in pairs) == sorted(labels)
    assert {image.tobytes() for image, _ in pairs} == {image.tobytes() for image in images}


def test_tfds_shows_examples_with_the_info_that_docs_describe(tfds, digits):
    builder = tfds.builder_from_directory(digits)
    assert len(show_examples(builder).axes) == 9


def show_examples(builder):
    """The lines of docs/inputs.md: raw pixels are a Tensor to TFDS, which draws features called Image only."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    image = tfds.features.Image(shape=features["image"].shape)
    info = tfds.core.DatasetInfo(builder=builder, features=tfds.features.FeaturesDict({**features, "image": image}))
    return tfds.show_examples(builder.as_dataset(split="train"), info)
