import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from pipeline.errors import InputError
from pipeline.format import manifest as manifest_lib
from pipeline.format.manifest import FILE_NAME, Manifest, Shard, Source, Split, Validation, load_manifest
from pipeline.format.records import RecordLayout
from tests.helpers import hostile

STRIDE = RecordLayout(6).stride


def shard(name, num_examples):
    return Shard(name, num_examples, num_examples * STRIDE, "0123abcd", "ab" * 32)


MANIFEST = Manifest(
    name="tiny",
    image_shape=(2, 3, 1),
    class_names=("a", "b"),
    splits={
        "train": Split("train", 5, (3, 2), (shard("t-0.tfrecord", 1), shard("t-1.tfrecord", 4))),
        "test": Split("test", 1, (), (shard("x-0.tfrecord", 1),)),
    },
    sources=(Source("train", "train.csv", 99, "0f" * 32, 5, True, "label", None),),
    validation=Validation(0.25, 4, "train", 7),
    pixel_mean=(1.5,),
    pixel_std=(0.1,),
    stride=STRIDE,
    planned_shards={"train": 2},
)


def write(directory, raw):
    (directory / FILE_NAME).write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return directory


def changed(place, value):
    """The fields of MANIFEST with `value` at a place such as "splits.test.shards.0.name"."""
    raw = json.loads(MANIFEST.to_json())
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    inner = raw
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return raw


def test_reading_gives_what_was_written_with_train_first(tmp_path):
    loaded = load_manifest(write(tmp_path, MANIFEST.to_json()))
    assert loaded == MANIFEST
    assert list(loaded.splits) == ["train", "test"]


def test_hash_is_that_of_the_file_and_changes_with_any_field():
    other = msgspec.structs.replace(MANIFEST, pixel_mean=(1.6,))
    assert MANIFEST.sha256 == msgspec.structs.replace(MANIFEST).sha256 != other.sha256
    assert json.loads(MANIFEST.to_json())["own_sha256"] == MANIFEST.own_sha256


def test_split_knows_its_rows_labels_and_sources():
    assert MANIFEST.split("train").shard_starts.tolist() == [0, 1, 5]
    assert MANIFEST.split("train").labelled
    assert not MANIFEST.split("test").labelled
    assert MANIFEST.sources_of("val") == MANIFEST.sources_of("train") == MANIFEST.sources
    assert msgspec.structs.replace(MANIFEST, validation=Validation()).sources_of("val") == ()
    with pytest.raises(InputError, match="no split 'val' in tiny; it has test, train"):
        MANIFEST.split("val")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"version": 3}', "[" * 100_000, '{"version": 1e999}', '{"version": NaN}']
)
def test_other_files_are_not_manifests(tmp_path, text):
    with pytest.raises(InputError, match="not a manifest of ours"):
        load_manifest(write(tmp_path, text))


HUGE = 10**4000
LONG = "x" * 10**6


@pytest.mark.parametrize(
    ("place", "value", "fragment"),
    [
        ("version", 2, "version 2, expected 3"),
        ("version", LONG, "Expected `int`, got `str` - at `$.version`"),
        ("stride", 100, "stride 100, expected"),
        ("class_names", ["a"], "counts 2 classes, expected 1"),
        ("class_names", ["a", "a"], "two class names are equal"),
        ("class_names", ["a", "\ud800"], "not a manifest of ours"),
        ("class_names", ["a", "b\nc"], r"class name 'b\nc' is not 1 to 255 printable characters"),
        ("name", "../up", "at `$.name`"),
        ("pixel_mean", [1.0, 2.0], "pixel_mean needs one value for 1 channel"),
        ("pixel_mean", [float("nan")], "not a manifest of ours"),
        ("pixel_std", ["1"], "Expected `float`, got `str` - at `$.pixel_std[0]`"),
        ("pixel_std", [-0.5], "Expected `float` >= 0.0 - at `$.pixel_std[0]`"),
        ("image_shape", [2, 3], "Expected `array` of length 3 - at `$.image_shape`"),
        ("image_shape", [10**6, 10**6, 1], "image_shape (1000000, 1000000, 1) is over"),
        ("image_shape", [HUGE, 1, 1], "at `$.image_shape[0]`"),
        ("planned_shards.train", 0, "at `$.planned_shards[...]`"),
        ("planned_shards.test", 1, "planned_shards names a split without a source"),
        ("sources.0.label_column", 3, "at `$.sources[0].label_column`"),
        ("sources.0.name", LONG, "at `$.sources[0].name`"),
        ("validation.fraction", True, "at `$.validation.fraction`"),
        ("validation.group_size", 0, "at `$.validation.group_size`"),
        ("splits.train.shards", [], "at `$.splits[...].shards`"),
        ("splits.train.num_examples", True, "at `$.splits[...].num_examples`"),
        ("splits.train.num_examples", 6, "the shards of split 'train' do not add up"),
        ("splits.train.class_counts", [3, 3], "the class counts of split 'train' do not add up"),
        ("splits.train.name", "val", "split 'train' has the name 'val'"),
        ("splits.train.shards.0.num_bytes", 7, "shard 't-0.tfrecord': 7 bytes do not match its examples"),
        ("splits.train.shards.0.page_crc32c", "0123abcd" * 2, "2 page checksums, expected 1"),
        *(
            ("splits.train.shards.0.page_crc32c", text, "shard 't-0.tfrecord': ")
            for text in ("", "0123abc", "0123ABCD", "0123 abcd", "0123abcg", "é")
        ),
        (f"splits.train.shards.0.{LONG}", 1, "unknown field `xxx"),
        ("splits.train.shards.0.a\nb", 1, "unknown field `a?b`"),
        ("splits.test.shards.0.name", "t-0.tfrecord", "shard 't-0.tfrecord' is listed 2 times"),
        *(
            ("splits.test.shards.0.name", name, "at `$.splits[...].shards[0].name`")
            for name in (
                *("../x.tfrecord", "a/b.tfrecord", ".x.tfrecord", "", "x" * 300 + ".tfrecord"),
                *("a\nb.tfrecord", "a.tfrecord\n", "a.json", None),
            )
        ),
    ],
)
def test_invalid_field_is_named_in_one_short_line(tmp_path, place, value, fragment):
    with pytest.raises(InputError) as caught:
        load_manifest(write(tmp_path, changed(place, value)))
    assert fragment in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 300
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pixel_std", (float("nan"),)),
        ("pixel_mean", (float("inf"),)),
        ("class_names", ("a", "\ud800")),
        ("class_names", tuple(map(str, range(manifest_lib.MAX_CLASSES + 1)))),
        ("stride", STRIDE + 1),
        ("splits", {}),
    ],
    ids=["NaN", "infinity", "not Unicode", "too many classes", "stride", "no splits"],
)
def test_invalid_manifest_is_not_written(field, value):
    with pytest.raises(InputError):
        msgspec.structs.replace(MANIFEST, **{field: value}).to_json()


def test_manifest_too_large_to_be_read_is_not_written(monkeypatch):
    monkeypatch.setattr(manifest_lib, "_MAX_FILE_BYTES", 1000)
    with pytest.raises(InputError, match="a manifest of [0-9,]+ bytes, over"):
        MANIFEST.to_json()


@pytest.mark.parametrize(("place", "value"), [("splits.train.class_counts", [2, 3]), ("own_sha256", "0" * 64)])
def test_edited_manifest_is_detected(tmp_path, place, value):
    with pytest.raises(InputError, match="changed since it was written.*inspect_tfrecord.py verify"):
        load_manifest(write(tmp_path, changed(place, value)))


def test_missing_and_huge_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="csv_to_tfrecord"):
        load_manifest(tmp_path)
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(InputError, match="over 256 MiB"):
        load_manifest(tmp_path)


@settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=hostile.hostile_manifests(MANIFEST.to_json()))
def test_mutated_manifest_is_refused_in_one_line_or_sound(tmp_path, text):
    (tmp_path / FILE_NAME).write_bytes(text)
    try:
        with hostile.bounded():
            manifest = load_manifest(tmp_path)
    except InputError as error:
        assert len(str(error)) < len(str(tmp_path)) + 400
        assert str(error).isprintable()
    else:
        manifest.to_json()
        for split in manifest.splits.values():
            assert split.shard_starts[-1] == split.num_examples


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (("features.json", "mnist-train.tfrecord-00000-of-00001"), "mnist/3.0.1"),
        (("features.json", "mnist-train.array_record-00000-of-00001"), "--tfds .*mnist/3.0.1"),
    ],
)
@pytest.mark.parametrize("depth", [0, 1])
def test_directory_of_tensorflow_datasets_is_named_with_the_command_that_imports_it(tmp_path, names, given, depth):
    directory = tmp_path / "mnist/3.0.1"
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).touch()
    with pytest.raises(
        InputError, match=f"no manifest.json.* run: python tools/import_tfrecord.py .*{given} --out data/"
    ):
        load_manifest(directory.parent if depth else directory)


def test_a_directory_above_a_data_set_of_ours_is_refused_with_its_name(tmp_path):
    for name in ("features.json", "manifest.json"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).touch()
    with pytest.raises(InputError, match=f"no manifest.json, so not a data set; did you mean {tmp_path}/mine\\?$"):
        load_manifest(tmp_path)


def test_directory_of_other_tfrecords_is_named_with_the_command_that_imports_it(tmp_path):
    (tmp_path / "train.tfrecord").touch()
    with pytest.raises(InputError, match=rf"it holds TFRecords; run: .*import_tfrecord.py {tmp_path} --out data/NAME"):
        load_manifest(tmp_path)
