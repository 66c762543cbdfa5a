import numpy as np
import pytest

from pipeline.convert.config import ConvertConfig
from pipeline.convert.converter import convert
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_reader
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from tests.helpers.containers import CLASSES, IMAGES, NAMES, read, write_list, write_pictures
from tests.helpers.conversion import read_split


@pytest.fixture
def folder(tmp_path):
    """The images as train/ROW.png."""
    write_pictures(tmp_path / "train", IMAGES, by_class=False)
    return tmp_path


LISTS = {
    "names and labels": ("image,label", "train/{row}.png,{name}", {}),
    "any names of columns": ("file,breed", "train/{row}.png,{name}", {}),
    "labels first": ("breed,file", "{name},train/{row}.png", {}),
    "no header": (None, "train/{row}.png,{name}", {"has_header": False}),
    "header not announced": (None, "train/{row}.png,{name}", {}),
    "semicolons": ("image;label", "train/{row}.png;{name}", {}),
    "quoted": ("image,label", '"train/{row}.png", "{name}"', {}),
    "more columns": ("image,label,writer", "train/{row}.png,{name},7", {}),
    "many columns": ("image,a,b,c,d,e,f,label", "train/{row}.png,1,2,3,4,5,6,{name}", {}),
    "label by option": ("image,writer,breed", "train/{row}.png,7,{name}", {"label_column": "breed"}),
    "a comma at the end of every line": ("image,breed,", "train/{row}.png,{name},", {}),
    "pandas' index": (",image,breed", "{row},train/{row}.png,{name}", {}),
    "dropped column": ("image,writer,breed", "train/{row}.png,7,{name}", {"drop_column": ("writer",)}),
    "folder elsewhere": ("image,label", "{row}.png,{name}", {"image_path": "train/{image}"}),
    "names without suffix": ("key,label", "{row},{name}", {"image_path": "train/{key}.png"}),
}


@pytest.mark.parametrize("case", LISTS)
def test_list_gives_images_and_labels(folder, case):
    header, line, options = LISTS[case]
    lines = [line.format(row=row, name=NAMES[row]) for row in range(30)]
    path = write_list(folder / "train.csv", *([lines[0], lines[1:]] if header is None else [header, lines]))
    images, labels, ids = read(path, ReadOptions(**options))
    np.testing.assert_array_equal(images[..., 0], IMAGES)
    assert [CLASSES[label] for label in labels] == NAMES
    assert ids is None


def test_one_hot_labels_are_the_names_of_their_columns(folder):
    rows = [f"train/{row}.png,7,{','.join(str(int(name == own)) for own in CLASSES)}" for row, name in enumerate(NAMES)]
    path = write_list(folder / "train.csv", f"image,writer,{','.join(CLASSES)}", rows)
    _, labels, _ = read(path, ReadOptions(one_hot_labels=len(CLASSES)))
    assert [CLASSES[label] for label in labels] == NAMES
    with pytest.raises(InputError, match="which column is the label. .* one-hot labels need --one-hot-labels N"):
        find_reader(path, ReadOptions())
    with pytest.raises(InputError, match="line 2: not a single 1 among zeros in columns writer, .* --drop-column"):
        find_reader(path, ReadOptions(one_hot_labels=len(CLASSES) + 1))


def test_ids_are_those_of_an_id_column_or_of_the_names(folder):
    with_ids = write_list(folder / "a.csv", "id,file", [f"{100 - row},train/{row}.png" for row in range(9)])
    assert read(with_ids, ReadOptions())[2].tolist() == list(range(100, 91, -1))
    names = write_list(folder / "b.csv", "file", [f"train/{row}.png" for row in range(9)])
    images, labels, ids = read(names, ReadOptions())
    assert (labels, ids.tolist()) == (None, list(range(9)))
    pattern = ReadOptions(image_path="train/{id}.png")
    both = write_list(folder / "c.csv", "id,breed", [f"{row},{NAMES[row]}" for row in range(9)])
    images, labels, ids = read(both, pattern)
    np.testing.assert_array_equal(images[..., 0], IMAGES[:9])
    assert ([CLASSES[label] for label in labels], ids.tolist()) == (NAMES[:9], list(range(9)))


def test_a_column_of_a_list_names_splits(folder):
    splits = [("train", "test", "valid")[row % 3] for row in range(30)]
    lines = [f"train/{row}.png,{NAMES[row]},{splits[row]}" for row in range(30)]
    path = write_list(folder / "list.csv", "file,breed,part", lines)
    config = ConvertConfig(splits=(("", path),), out=folder / "data", split_column="part")
    convert(config)
    names = load_manifest(folder / "data").class_names
    for split, first in (("train", 0), ("test", 1), ("val", 2)):
        images, labels, _ = read_split(folder / "data", split)
        np.testing.assert_array_equal(images.reshape(10, *IMAGES.shape[1:]), IMAGES[first::3])
        assert [names[label] for label in labels] == NAMES[first::3]


def test_splits_of_a_folder_are_not_divided_by_a_column(folder):
    with pytest.raises(InputError, match="no column 'part'"):
        convert(ConvertConfig(splits=(("", folder / "train"),), out=folder / "data", split_column="part"))


def test_images_are_looked_for_beside_the_list(folder):
    write_pictures(folder / "deep/test_images", 255 - IMAGES, by_class=False)
    path = write_list(folder / "train.csv", "id_code,diagnosis", [f"{row},{NAMES[row]}" for row in range(30)])
    for split, images, place in (("train", IMAGES, "train"), ("test", 255 - IMAGES, "deep/test_images")):
        np.testing.assert_array_equal(read(path, ReadOptions(), split)[0][..., 0], images)
        reader = find_reader(path, ReadOptions(), split)
        assert reader.notes == (f"{path}: images are {place}/{{id_code}}.png; --image-path changes this",)
    with pytest.raises(InputError, match="images may be train/{id_code}.png, deep/test_images/{id_code}.png; choose"):
        find_reader(path, ReadOptions(), "other")


def test_numbers_beside_a_one_hot_label_are_looked_for_as_names(folder):
    rows = [f"{row},{','.join(str(int(name == own)) for own in CLASSES)}" for row, name in enumerate(NAMES)]
    path = write_list(folder / "train.csv", f"image_id,{','.join(CLASSES)}", rows)
    images, labels, _ = read(path, ReadOptions(one_hot_labels=len(CLASSES)))
    np.testing.assert_array_equal(images[..., 0], IMAGES)
    assert [CLASSES[label] for label in labels] == NAMES


def test_suffixes_in_upper_case_are_found(folder):
    for path in (folder / "train").iterdir():
        path.rename(path.with_suffix(".PNG"))
    path = write_list(folder / "train.csv", "id_code,diagnosis", [f"{row},{NAMES[row]}" for row in range(30)])
    np.testing.assert_array_equal(read(path, ReadOptions())[0][..., 0], IMAGES)
    assert "train/{id_code}.PNG" in find_reader(path, ReadOptions()).notes[0]


def test_numbers_in_a_list_are_ids_not_labels(folder):
    path = write_list(folder / "a.csv", "key,label", [f"{29 - row},{row % 3}" for row in range(30)])
    images, labels, _ = read(path, ReadOptions())
    np.testing.assert_array_equal(images[..., 0], IMAGES[::-1])
    assert labels.tolist() == [row % 3 for row in range(30)]
    assert find_reader(write_list(folder / "b.csv", "label,a,b,c,d", ["1,2,3,4,5"]), ReadOptions()) is None


def test_names_without_folder_are_looked_for(folder):
    path = write_list(folder / "a.csv", "image,label", [f"{row}.png,{NAMES[row]}" for row in range(30)])
    np.testing.assert_array_equal(read(path, ReadOptions())[0][..., 0], IMAGES)
    assert find_reader(path, ReadOptions()).notes == (f"{path}: images are train/{{image}}; --image-path changes this",)


INVALID = {
    "missing file": ("image,label", ["train/0.png,a", "train/99.png,b"], {}, r"line 3: .*train/99.png: no such file"),
    "nowhere": ("image,label", ["a/0.png,a"], {}, "no image 'a/0.png' beside it; .* --image-path 'FOLDER/{image}'"),
    "no pixels": (
        "id,breed",
        ["abc,cat"],
        {},
        "its columns id, breed have no pixels; .* with --image-path 'FOLDER/{id}.png'",
    ),
    "short line": ("image,label", ["train/0.png,a", "train/1.png"], {}, "line 3: 1 columns, but the first line has 2"),
    "several labels": (
        "image,breed,color",
        ["train/0.png,a,b"],
        {},
        "which column is the label. give --label-column with one of breed, color, or none",
    ),
    "several images": (
        "left,right,label",
        ["train/0.png,train/1.png,b"],
        {},
        "columns left, right have names of images; give --image-path '{left}'",
    ),
    "label column": (
        "image,label",
        ["train/0.png,a"],
        {"label_column": "breed"},
        "no column 'breed' for --label-column",
    ),
    "unknown field": (
        "image,label",
        ["train/0.png,a"],
        {"image_path": "{name}.png"},
        "no column 'name' for --image-path; it has image, label",
    ),
    "no field": (
        "image,label",
        ["train/0.png,a"],
        {"image_path": "a.png"},
        "names no column; write it like train/{image}",
    ),
    "repeated name": ("image,image", ["train/0.png,a"], {}, "two columns have one name"),
    "no rows": ("image.png", [], {"image_path": "{image}"}, "names no image|no column 'image'"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_list_is_one_line(folder, case):
    header, lines, options, message = INVALID[case]
    path = write_list(folder / "a.csv", header, lines)
    with pytest.raises(InputError, match=message) as caught:
        read(path, ReadOptions(**options))
    assert "\n" not in str(caught.value)


def test_table_of_pixels_is_not_a_list(tmp_path):
    path = write_list(tmp_path / "a.csv", "label,pixel0,pixel1", ["1,2,3"])
    assert find_reader(path, ReadOptions()) is None
