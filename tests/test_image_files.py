import numpy as np
import pytest

from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_reader, image_files
from pipeline.convert.second_labels import add_labels
from pipeline.errors import InputError
from tests.helpers.containers import CLASSES, COLOR, IMAGES, NAMES, picture, read, write_list, write_pictures

OPTIONS = ReadOptions()


@pytest.mark.parametrize("block_bytes", [8 << 20, 500])
@pytest.mark.parametrize("images", [IMAGES, COLOR], ids=["gray", "color"])
def test_folder_by_class_gives_images_and_names(tmp_path, monkeypatch, images, block_bytes):
    monkeypatch.setattr(image_files, "_BLOCK_BYTES", block_bytes)
    write_pictures(tmp_path / "train", images)
    (tmp_path / "train/.DS_Store").write_bytes(b"x")
    (tmp_path / "train/ant/notes.txt").write_text("x")
    (tmp_path / "train/empty").mkdir()
    pixels, labels, ids = read(tmp_path / "train", OPTIONS)
    order = [row for name in CLASSES for row in range(30) if NAMES[row] == name]
    np.testing.assert_array_equal(pixels, images.reshape(30, 8, 8, -1)[order])
    assert [CLASSES[label] for label in labels] == [NAMES[row] for row in order]
    assert ids is None
    assert find_reader(tmp_path / "train", OPTIONS).place_of(1) == str(tmp_path / "train/ant/3.png")


def test_folders_of_numbers_are_numbered_classes(tmp_path):
    for name in ("0", "2", "10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(picture(IMAGES[0]))
    reader = find_reader(tmp_path, OPTIONS)
    assert np.concatenate(list(reader.labels())).tolist() == [0, 10, 2]


def test_folder_without_classes_is_a_split_to_predict_whose_ids_are_the_names(tmp_path):
    write_pictures(tmp_path / "test", IMAGES[:12], by_class=False)
    pixels, labels, ids = read(tmp_path / "test", OPTIONS)
    np.testing.assert_array_equal(pixels[..., 0], IMAGES[:12])
    assert (labels, ids.tolist()) == (None, list(range(12)))
    (tmp_path / "test/b.png").write_bytes(picture(IMAGES[0]))
    assert read(tmp_path / "test", OPTIONS)[2].tolist() == [*map(str, range(12)), "b"]


def test_names_of_zeros_before_a_number_stay_texts(tmp_path):
    for row in range(3):
        (tmp_path / f"000{row}.png").write_bytes(picture(IMAGES[row]))
    assert next(find_reader(tmp_path, OPTIONS).ids()).tolist() == ["0000", "0001", "0002"]


@pytest.mark.parametrize("names", ["{}.png", "photos/{}.png", "{}"])
def test_labels_of_a_folder_are_joined_by_the_names_of_its_files(tmp_path, names):
    write_pictures(tmp_path / "photos", IMAGES[:12], by_class=False)
    rows = [f"{names.format(row)},{NAMES[row]}" for row in range(11, -1, -1)]
    labels = write_list(tmp_path / "labels.csv", "image,label", rows)
    joined, note = add_labels(find_reader(tmp_path / "photos", OPTIONS), labels, OPTIONS)
    assert np.concatenate(list(joined.labels())).tolist() == NAMES[:12]
    assert note.endswith("by id")
    write_list(labels, "image,label", rows[1:])
    joined, _ = add_labels(find_reader(tmp_path / "photos", OPTIONS), labels, OPTIONS)
    with pytest.raises(InputError, match=r"11.png: no label for id '11' in .*labels.csv; add it, or remove the image"):
        list(joined.labels())


def test_gray_images_stored_as_rgb_are_noticed(tmp_path):
    write_pictures(tmp_path / "rgb", np.repeat(IMAGES[:3, ..., None], 3, axis=-1), by_class=False)
    assert "the first image is gray but stored as RGB; --channels 1" in find_reader(tmp_path / "rgb", OPTIONS).notes[0]


def test_changed_files_are_another_source(tmp_path):
    import pickle

    write_pictures(tmp_path, IMAGES[:3], by_class=False)
    first, again = (pickle.dumps(find_reader(tmp_path, OPTIONS)) for _ in range(2))
    (tmp_path / "1.png").write_bytes(picture(IMAGES[1] // 2))
    assert first == again != pickle.dumps(find_reader(tmp_path, OPTIONS))


def folders(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(IMAGES[0]) if name.endswith(".png") else b"x")
    return tmp_path


INVALID = {
    "splits": (
        ("train/a.png", "test/b.png"),
        "named like splits, not classes; give --split train=.*/train --split test=",
    ),
    "deeper": (
        ("train/cat/a.png", "test/cat/b.png"),
        r"\(test, train\) hold folders of images; give one, --split train=.*/train",
    ),
    "both": (("a.png", "cat/b.png"), r"has images beside folders of images \(cat\); give one of the folders"),
    "CSV beside": (("train.csv", "images/b.png"), "a CSV beside one folder of images; give the CSV, .*train.csv"),
    "files": (
        ("train.parquet", "test.parquet"),
        "a folder without images; give one of its files, such as .*train.parquet",
    ),
    "shards": (("train-00000-of-00008",), "TFRecords; import them with tools/import_tfrecord.py"),
    "TFRecords": (("a.tfrecord",), "TFRecords; import them with tools/import_tfrecord.py"),
    "empty": ((), "a folder without images"),
}


@pytest.mark.parametrize("case", INVALID)
def test_folder_that_is_not_of_images_says_what_to_give(tmp_path, case):
    names, message = INVALID[case]
    with pytest.raises(InputError, match=message) as caught:
        find_reader(_made(tmp_path, names), OPTIONS)
    assert "\n" not in str(caught.value)


def _made(tmp_path, names):
    (tmp_path / "data").mkdir()
    return folders(tmp_path / "data", *names)


def test_corrupt_image_names_its_file(tmp_path):
    write_pictures(tmp_path, IMAGES[:5], by_class=False)
    (tmp_path / "3.png").write_bytes(b"x")
    with pytest.raises(InputError, match=f"^{tmp_path}/3.png: not an image that can be decoded"):
        read(tmp_path, OPTIONS)


def test_image_of_another_size_names_its_file_and_the_first(tmp_path):
    write_pictures(tmp_path, IMAGES[:5], by_class=False)
    (tmp_path / "3.png").write_bytes(picture(IMAGES[0][:5]))
    with pytest.raises(InputError, match=f"^{tmp_path}/3.png: an image of 5 x 8, but {tmp_path}/0.png has 8 x 8"):
        read(tmp_path, OPTIONS)
    assert read(tmp_path, ReadOptions(image_size=(6, 6)))[0].shape == (5, 6, 6, 1)
