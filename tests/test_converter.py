import numpy as np
import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.format.manifest import load_manifest
from tests.helpers.conversion import all_bytes, convert_texts, read_split, table


def test_rows_come_back_in_order_with_labels_and_row_numbers(tmp_path):
    manifest = convert_texts(tmp_path, {"train": table(1000)}, shards=7)
    images, labels, ids = read_split(tmp_path / "data", "train")
    k = np.arange(1000)
    np.testing.assert_array_equal(images, np.stack([k % 256, k // 256, k * 0 + 7, 255 - k % 256], axis=1))
    np.testing.assert_array_equal(labels, k % 3)
    np.testing.assert_array_equal(ids, k)
    assert manifest == load_manifest(tmp_path / "data")
    assert manifest.split("train").class_counts == (334, 333, 333)


@pytest.mark.parametrize(("shards", "block_bytes"), [(1, 1 << 20), (3, 100), (8, 1000), (100, 77)])
def test_the_content_does_not_depend_on_shards_or_blocks(tmp_path, shards, block_bytes):
    one = convert_texts(tmp_path, {"train": table(300)}, "one", val_fraction=0.2, seed=5)
    other = convert_texts(
        tmp_path, {"train": table(300)}, "other", val_fraction=0.2, seed=5, shards=shards, block_bytes=block_bytes
    )
    for name in ("train", "val"):
        for a, b in zip(read_split(tmp_path / "one", name), read_split(tmp_path / "other", name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (one.pixel_mean, one.pixel_std) == (other.pixel_mean, other.pixel_std)


def test_the_same_input_and_seed_give_the_same_bytes_wherever_they_lie(tmp_path):
    (tmp_path / "deeper").mkdir()
    convert_texts(tmp_path, {"train": table(200), "test": table(50, "id", lambda k: k + 9)}, val_fraction=0.1)
    convert_texts(
        tmp_path, {"train": table(200), "test": table(50, "id", lambda k: k + 9)}, "deeper/data", val_fraction=0.1
    )
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "deeper" / "data")


def test_validation_takes_its_share_of_each_class_and_leaves_the_rest(tmp_path):
    manifest = convert_texts(tmp_path, {"train": table(300)}, val_fraction=0.1, seed=3)
    assert manifest.split("val").class_counts == (10, 10, 10)
    assert manifest.split("train").class_counts == (90, 90, 90)
    ids = [read_split(tmp_path / "data", name)[2] for name in ("train", "val")]
    assert sorted(np.concatenate(ids).tolist()) == list(range(300))
    assert manifest.validation.seed == 3


def test_validation_in_groups_keeps_blocks_of_rows_together(tmp_path):
    convert_texts(tmp_path, {"train": [table(130), table(70)]}, val_fraction=0.25, val_group_size=20)
    drawn = np.isin(np.arange(200), read_split(tmp_path / "data", "val")[2])
    # A group ends with its file: the first file's last group has ten rows, and the second file begins a new one.
    groups = np.split(drawn, [*range(20, 130, 20), *range(130, 200, 20)])
    assert {len(set(group.tolist())) for group in groups} == {1}
    assert 0 < drawn.sum() < 100


def test_mean_and_std_are_those_of_train_without_validation(tmp_path):
    manifest = convert_texts(tmp_path, {"train": table(999), "test": table(10)}, val_fraction=0.3)
    images, _, _ = read_split(tmp_path / "data", "train")
    assert manifest.pixel_mean == pytest.approx((images.mean(),), rel=1e-12)
    assert manifest.pixel_std == pytest.approx((images.std(),), rel=1e-12)


def test_color_images_have_statistics_for_each_channel(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (300, 18))
    rows = "\n".join(",".join(map(str, [k % 2, *row])) for k, row in enumerate(values.tolist()))
    text = "label," + ",".join(f"x{k}" for k in range(18)) + "\n" + rows
    manifest = convert_texts(tmp_path, {"train": text}, image_shape=(2, 3, 3))
    assert manifest.image_shape == (2, 3, 3)
    np.testing.assert_allclose(manifest.pixel_mean, values.reshape(-1, 3).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(manifest.pixel_std, values.reshape(-1, 3).std(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(read_split(tmp_path / "data", "train")[0], values)


def test_labels_with_a_gap_become_classes_that_remember_their_names(tmp_path):
    letters = [0, 1, 8, 10, 24]
    train = table(40, value=lambda k: letters[k % 4 + 1])
    manifest = convert_texts(
        tmp_path, {"train": train, "test": table(3, value=lambda _: 0)}, shards=2, val_fraction=0.1
    )
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


def test_without_any_labels_there_are_no_classes(tmp_path):
    manifest = convert_texts(tmp_path, {"test": table(9, "id", lambda k: k)})
    assert manifest.class_names == ()


def test_several_files_of_a_split_follow_one_another(tmp_path):
    manifest = convert_texts(tmp_path, {"train": [table(10), table(5)], "test": table(4)})
    assert [(source.split, source.name, source.num_rows) for source in manifest.sources] == [
        ("train", "train0.csv", 10),
        ("train", "train1.csv", 5),
        ("test", "test0.csv", 4),
    ]
    assert read_split(tmp_path / "data", "train")[0][:, 0].tolist() == [*range(10), *range(5)]


@pytest.mark.parametrize(("rows", "shards", "files"), [(3, 8, 3), (1, 99_999, 1), (8, 8, 8), (200, 150, 150)])
def test_no_shard_is_empty_and_each_name_counts_them(tmp_path, rows, shards, files):
    manifest = convert_texts(tmp_path, {"train": table(rows)}, shards=shards)
    names = [shard.name for shard in manifest.split("train").shards]
    assert names == [f"data-train.tfrecord-{k:05d}-of-{files:05d}" for k in range(files)]
    assert read_split(tmp_path / "data", "train")[2].tolist() == list(range(rows))


@pytest.mark.parametrize(
    ("base", "name"), [("kannada", "kannada"), ("My Data-1", "my_data_1"), ("2024", "data_2024"), ("é", "data__")]
)
def test_the_name_is_the_directory_in_letters_that_tfds_allows(tmp_path, base, name):
    assert ConvertConfig(splits=(("train", "x"),), out=tmp_path / base).name == name


def test_tensorflow_datasets_reads_the_directory(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="not installable beside TensorFlow 2.21 on Python 3.10")

    convert_texts(
        tmp_path, {"train": table(20, value=lambda k: 5 + k % 3 * 2), "test": table(6, "id", lambda k: k + 40)}
    )
    builder = tfds.builder_from_directory(tmp_path / "data")
    assert builder.info.features["label"].names == ["5", "7", "9"]
    read = {int(e["id"]): e for e in builder.as_dataset(split="train").as_numpy_iterator()}
    assert sorted(read) == list(range(20))
    assert read[10]["image"].dtype == np.uint8
    assert read[10]["image"].tolist() == [[[10], [0]], [[7], [245]]]
    assert read[10]["label"] == 1
    test = builder.as_dataset(split="test").as_numpy_iterator()
    assert sorted((int(e["id"]), int(e["label"])) for e in test) == [(40 + k, -1) for k in range(6)]


def test_without_labels_tensorflow_datasets_reads_it_too(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="not installable beside TensorFlow 2.21 on Python 3.10")

    convert_texts(tmp_path, {"test": table(6, None, lambda k: 0).replace("\n0,", "\n")})
    dataset = tfds.builder_from_directory(tmp_path / "data").as_dataset(split="test")
    assert [int(e["label"]) for e in dataset.as_numpy_iterator()] == [-1] * 6


def test_progress_counts_bytes_and_rows_to_the_end(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(table(500))
    seen = []
    convert(ConvertConfig(splits=(("train", path),), out=tmp_path / "data", block_bytes=1000), seen.append)
    assert seen[-1] == Progress(path.stat().st_size, path.stat().st_size, 500)
    assert [each.num_rows for each in seen] == sorted(each.num_rows for each in seen)
