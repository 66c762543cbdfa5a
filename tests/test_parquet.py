import json
import sys

import numpy as np
import pytest

from pipeline.convert.read_options import ReadOptions
from pipeline.convert.readers import find_reader
from pipeline.errors import InputError
from tests.helpers.containers import CLASSES, COLOR, IMAGES, LABELS, NAMES, hub_metadata, picture, read

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

OPTIONS = ReadOptions()
ENCODED = [picture(image) for image in IMAGES]
AS_STRUCT = [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(ENCODED)]


def write(path, columns, metadata=None, rows_per_group=7):
    table = pa.table(columns).replace_schema_metadata(metadata)
    pa.parquet.write_table(table, path, row_group_size=rows_per_group)
    return path


LAYOUTS = {
    "hub": ({"image": AS_STRUCT, "label": LABELS}, hub_metadata()),
    "hub with ids": ({"image": AS_STRUCT, "label": LABELS, "id": range(30)}, hub_metadata()),
    "bytes and names": ({"img": ENCODED, "class": NAMES}, None),
    "categories": ({"img": ENCODED, "class": pa.array(NAMES).dictionary_encode()}, None),
    "lists": ({"pixels": IMAGES.reshape(30, 64).tolist(), "label": NAMES}, None),
    "lists of lists": ({"image": IMAGES.tolist(), "label": NAMES}, None),
    "column per pixel": ({"label": NAMES, **{f"pixel{k}": IMAGES.reshape(30, 64)[:, k] for k in range(64)}}, None),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_each_layout_gives_images_and_labels(tmp_path, case):
    columns, metadata = LAYOUTS[case]
    path = write(tmp_path / "train.parquet", columns, metadata)
    images, labels, ids = read(path, OPTIONS)
    np.testing.assert_array_equal(images[..., 0], IMAGES)
    assert [CLASSES[label] for label in labels] == NAMES
    assert (None if ids is None else ids.tolist()) == (list(range(30)) if "id" in columns else None)
    assert find_reader(path, OPTIONS).place_of(3) == f"{path}, row 3 (counted from 0)"


def test_names_of_the_classes_are_those_of_the_hub(tmp_path):
    path = write(tmp_path / "a", {"image": AS_STRUCT, "label": LABELS}, hub_metadata(("x", "y", "z", "never seen")))
    assert find_reader(path, OPTIONS).class_names == ("x", "y", "z", "never seen")


def test_labels_of_any_name_are_those_that_the_hub_declares(tmp_path):
    columns = {"img": AS_STRUCT, "fine_label": LABELS, "id": [f"a{row}" for row in range(30)]}
    label = {"names": list(CLASSES), "_type": "ClassLabel"}

    def metadata(*names):
        return {"huggingface": json.dumps({"info": {"features": dict.fromkeys(names, label)}})}

    _, labels, ids = read(write(tmp_path / "a", columns, metadata("fine_label")), OPTIONS)
    np.testing.assert_array_equal(labels, LABELS)
    assert ids[:2].tolist() == ["a0", "a1"]
    both = write(tmp_path / "b", {**columns, "coarse_label": LABELS}, metadata("fine_label", "coarse_label"))
    with pytest.raises(
        InputError, match="columns fine_label, coarse_label could each be the label; choose with --label"
    ):
        find_reader(both, OPTIONS)
    np.testing.assert_array_equal(read(both, ReadOptions(label_column="coarse_label"))[1], LABELS)


def test_dropped_columns_are_not_used_and_a_guess_is_reported(tmp_path):
    path = write(tmp_path / "a", {"image": AS_STRUCT, "mask": ENCODED, "label": LABELS, "id": NAMES})
    note = f"{path}: images are in column image, not mask; choose with {path}:COLUMN"
    assert find_reader(path, OPTIONS).notes == (note,)
    reader = find_reader(path, ReadOptions(drop_column=("mask", "label", "id")))
    assert (reader.has_labels, reader.has_ids, reader.notes) == (False, False, ())
    assert "--label-column: image" in reader.label_advice


def test_one_hot_labels_are_refused_rather_than_ignored(tmp_path):
    path = write(tmp_path / "a", {"image": AS_STRUCT, "a": LABELS})
    with pytest.raises(InputError, match="--one-hot-labels is for text; write the label into one column, or as a CSV"):
        find_reader(path, ReadOptions(one_hot_labels=3))


def test_hidden_labels_are_none(tmp_path):
    path = write(tmp_path / "a", {"image": AS_STRUCT, "label": [-1] * 30}, hub_metadata())
    images, labels, _ = read(path, OPTIONS)
    np.testing.assert_array_equal(images[..., 0], IMAGES)
    assert labels is None


def test_column_of_images_can_be_chosen(tmp_path):
    other = [picture(image) for image in COLOR]
    path = write(tmp_path / "a.parquet", {"left": ENCODED, "right": other, "label": NAMES})
    with pytest.raises(InputError, match="columns left, right could each be the image; choose one, .*a.parquet:left"):
        find_reader(path, OPTIONS)
    np.testing.assert_array_equal(read(f"{path}:right", OPTIONS)[0], COLOR)


INVALID = {
    "no image bytes": ({"image": [{"bytes": None, "path": "a.png"}]}, "row 0 .*: no image in column 'image'"),
    "no image": ({"image": [ENCODED[0], None]}, "row 1 .*: no image in column 'image'"),
    "no label": ({"image": ENCODED[:2], "label": [1, None]}, "row 1 .*: column label has no value"),
    "corrupt image": ({"image": [ENCODED[0], b"x"]}, "row 1 .*: not an image that can be decoded"),
    "sizes": ({"image": [ENCODED[0], picture(IMAGES[0][:5])]}, "row 1 .*: an image of 5 x 8, but .*row 0 .* has 8 x 8"),
    "lengths": ({"pixels": [[1, 2], [3]]}, "column pixels: lists of unequal lengths"),
    "text column": (
        {"label": [1], "title": ["a"]},
        "a.parquet: column title has texts, not pixels; give --drop-column .* or write a CSV of file names",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_parquet_is_one_line(tmp_path, case):
    columns, message = INVALID[case]
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path / "a.parquet", columns), OPTIONS)
    assert "\n" not in str(caught.value)


def test_truncated_file_is_one_line(tmp_path):
    path = write(tmp_path / "a", {"image": ENCODED, "label": LABELS})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="a: corrupt or truncated Parquet file; get it again"):
        find_reader(path, OPTIONS)


def test_without_pyarrow_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a", {"image": ENCODED, "label": LABELS})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="a: a Parquet file, which needs pyarrow; run: python -m pip install pyarrow"):
        find_reader(path, OPTIONS)
