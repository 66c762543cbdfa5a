import dataclasses
import json

import pytest

from pipeline.errors import InputError
from pipeline.format.manifest import FILE_NAME, Manifest, Shard, Source, Split, Validation, load_manifest
from pipeline.format.records import RecordLayout

STRIDE = RecordLayout(6).stride


def shard(name, num_examples):
    return Shard(name, num_examples, num_examples * STRIDE, "0123abcd", "ab" * 32)


MANIFEST = Manifest(
    name="tiny",
    image_shape=(2, 3, 1),
    class_names=("a", "b"),
    splits={
        "train": Split("train", 5, (3, 2), (shard("t-0.tfrecord", 3), shard("t-1.tfrecord", 2))),
        "test": Split("test", 1, (), (shard("x-0.tfrecord", 1),)),
    },
    sources=(Source("train", "train.csv", 99, "0f" * 32, 5, True, "label", None),),
    validation=Validation(0.25, 4, "train", 7),
    pixel_mean=(1.5,),
    pixel_std=(0.1,),
    stride=STRIDE,
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


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", "{}", '{"version": 2}', "[" * 100_000, '{"version": 1e999}'])
def test_a_file_that_is_no_manifest_is_an_error(tmp_path, raw):
    with pytest.raises(InputError, match="not a manifest of ours"):
        load_manifest(write(tmp_path, raw))


HUGE = 10**4000
LONG = "x" * 10**6


def changed(raw, place, value):
    """`raw` with `value` at a place such as "splits.test.shards.0.name"."""
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    inner = raw
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return raw


@pytest.mark.parametrize(
    ("place", "value", "fragment"),
    [
        ("version", 1, "version 1, expected 2"),
        ("version", LONG, "expected 2"),
        ("stride", 100, "stride 100"),
        ("stride", HUGE, "stride: 1000"),
        ("class_names", ["a"], "counts 2 classes, expected 1"),
        ("class_names", ["a", "a"], "expected different ones"),
        ("class_names", ["a", "\ud800"], r"a class name '\\ud800'"),
        ("class_names", ["a", "b\nc"], r"a class name 'b\\nc'"),
        ("class_names", ["a", LONG], "a class name 'xxx"),
        ("name", "../up", "the name '../up'"),
        ("pixel_mean", [1.0, 2.0], "each of 1 channels"),
        ("pixel_mean", [float("nan")], "nan is not from 0 to 255"),
        ("pixel_mean", [HUGE], "1000.* is not from 0 to 255"),
        ("pixel_std", ["1"], "'1' is not from 0 to 255"),
        ("image_shape", [2, 3], "height, width, channels"),
        ("image_shape", [2, 3, 0], "height, width, channels"),
        ("image_shape", [10**15, 1, 1], "height, width, channels"),
        ("image_shape", [HUGE, 1, 1], "is not a count"),
        ("image_shape", [2, -3, 1], "-3 is not a count"),
        ("image_shape", "231", "'231' is not a list"),
        ("sources", [{"name": "x"}], "a source: no field 'has_header'"),
        ("sources.0.label_column", 3, "a source's name or column 3 is not one of ours"),
        ("sources.0.name", LONG, "a source's name or column 'xxx"),
        ("sources.0.sha256", "0g" * 32, "a source's SHA-256"),
        ("validation.fraction", True, "fraction True"),
        ("validation.group_size", 0, "group_size 0"),
        ("splits.train.shards", [], "do not add up"),
        ("splits.train.num_examples", True, "True is not a count"),
        ("splits.train.class_counts", [3, 3], "the class counts of split 'train' do not add up"),
        ("splits.train.name", "val", "calls itself 'val'"),
        ("splits.train.shards.0.num_bytes", 7, "num_bytes is not that of its examples"),
        ("splits.train.shards.0.page_crc32c", "0123abcd" * 2, "2 page checksums, expected 1"),
        ("splits.train.shards.0.page_crc32c", "0123ABCD", "page checksums"),
        ("splits.train.shards.0.more", LONG, "unexpected field 'more'"),
        (f"splits.train.shards.0.{LONG}", 1, "unexpected field 'xxx"),
    ],
)
def test_a_manifest_with_a_wrong_field_says_which_in_a_short_line(tmp_path, place, value, fragment):
    raw = changed(json.loads(MANIFEST.to_json()), place, value)
    with pytest.raises(InputError, match=fragment) as caught:
        load_manifest(write(tmp_path, raw))
    assert len(str(caught.value)) < len(str(tmp_path)) + 300
    assert len(str(caught.value).splitlines()) == 1


def test_shards_are_as_full_as_rows_dealt_in_turn_make_them(tmp_path):
    raw = json.loads(MANIFEST.to_json())
    raw["splits"]["train"]["shards"].reverse()
    with pytest.raises(InputError, match="'t-1.tfrecord' has 2 examples, expected 3"):
        load_manifest(write(tmp_path, raw))


def test_a_shard_named_twice_is_refused(tmp_path):
    raw = changed(json.loads(MANIFEST.to_json()), "splits.test.shards.0.name", "t-0.tfrecord")
    with pytest.raises(InputError, match="'t-0.tfrecord' is named twice"):
        load_manifest(write(tmp_path, raw))


@pytest.mark.parametrize(
    "name",
    ["../x.tfrecord", "a/b.tfrecord", ".x.tfrecord", "", "x" * 300 + ".tfrecord", "a\nb.tfrecord", "a.json", None],
)
def test_a_shard_outside_the_directory_is_refused(tmp_path, name):
    raw = changed(json.loads(MANIFEST.to_json()), "splits.test.shards.0.name", name)
    with pytest.raises(InputError, match="a shard's name"):
        load_manifest(write(tmp_path, raw))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("pixel_mean", [1.25]),
        ("splits.train.class_counts", [2, 3]),
        ("sources.0.num_rows", 6),
        ("own_sha256", "0" * 64),
    ],
)
def test_an_edited_manifest_is_seen(tmp_path, place, value):
    raw = changed(json.loads(MANIFEST.to_json()), place, value)
    with pytest.raises(InputError, match="changed since it was written.*inspect_tfrecord.py verify"):
        load_manifest(write(tmp_path, raw))


def test_a_huge_file_is_no_manifest(tmp_path):
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(InputError, match="over 64 MiB"):
        load_manifest(tmp_path)


def test_the_command_that_mends_names_the_csvs_of_the_split(tmp_path):
    assert MANIFEST.repair_command("a b", "train") == (
        "python tools/inspect_tfrecord.py repair 'a b' --from train=train.csv"
    )
    odd = dataclasses.replace(MANIFEST, sources=(dataclasses.replace(MANIFEST.sources[0], name="a\nb"),))
    assert odd.repair_command("d", "train").endswith("repair d --from train=FILE")
