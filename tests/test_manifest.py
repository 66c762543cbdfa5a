import dataclasses
import json

import pytest

from pipeline.convert.manifest import FILE_NAME, Manifest, Shard, Source, Split, Validation, load_manifest
from pipeline.convert.schema import RecordLayout
from pipeline.errors import InputError

MANIFEST = Manifest(
    name="tiny",
    image_shape=(2, 3, 1),
    class_names=("a", "b"),
    splits={
        "train": Split("train", 5, (3, 2), (Shard("t-0", 3, 300, "ab"), Shard("t-1", 2, 200, "cd"))),
        "test": Split("test", 1, (), (Shard("x-0", 1, 100, "ef"),)),
    },
    sources=(Source("train", "train.csv", 99, "0f", 5),),
    validation=Validation(0.25, 4, "train", 7),
    pixel_mean=(1.5,),
    pixel_std=(0.1,),
    stride=RecordLayout(6).stride,
)


def write(directory, raw):
    (directory / FILE_NAME).write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return directory


def test_a_manifest_comes_back_from_its_file(tmp_path):
    assert load_manifest(write(tmp_path, MANIFEST.to_json())) == MANIFEST


def test_the_hash_is_that_of_the_file_and_changes_with_any_field():
    other = dataclasses.replace(MANIFEST, pixel_mean=(1.6,))
    assert len({MANIFEST.sha256, other.sha256}) == 2
    assert MANIFEST.sha256 == dataclasses.replace(MANIFEST).sha256


def test_a_split_is_labelled_where_it_counts_classes():
    assert MANIFEST.split("train").labelled
    assert not MANIFEST.split("test").labelled


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InputError, match="no split 'val' in tiny; it has test, train"):
        MANIFEST.split("val")


def test_a_directory_without_a_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="csv_to_tfrecord"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", "{}", '{"version": 1}', "[" * 100_000])
def test_a_file_that_is_no_manifest_is_an_error(tmp_path, raw):
    with pytest.raises(InputError, match="not a manifest of ours"):
        load_manifest(write(tmp_path, raw))


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"version": 2}, "version 2"),
        ({"stride": 100}, "stride 100"),
        ({"class_names": ["a"]}, "counts 2 classes, expected 1"),
        ({"pixel_mean": [1.0, 2.0]}, "each of 1 channels"),
        ({"image_shape": [2, 3]}, "height, width, channels"),
        ({"image_shape": [2, 3, 0]}, "height, width, channels"),
        ({"image_shape": [2, -3, 1]}, "-3 is not a count"),
        ({"sources": [{"name": "x"}]}, "TypeError"),
        ({"splits": {"train": {"num_examples": 1, "class_counts": [], "shards": []}}}, "do not add up"),
        ({"splits": {"train": {"num_examples": True, "class_counts": [], "shards": []}}}, "True is not a count"),
    ],
)
def test_a_manifest_with_a_wrong_field_says_which(tmp_path, change, fragment):
    with pytest.raises(InputError, match=fragment):
        load_manifest(write(tmp_path, {**json.loads(MANIFEST.to_json()), **change}))


@pytest.mark.parametrize("name", ["../secret", "a/b", ".hidden", ""])
def test_a_shard_outside_the_directory_is_refused(tmp_path, name):
    raw = json.loads(MANIFEST.to_json())
    raw["splits"]["test"]["shards"][0]["name"] = name
    with pytest.raises(InputError, match="not a plain file name"):
        load_manifest(write(tmp_path, raw))
