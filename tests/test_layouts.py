"""Every layout of a table of text that people have becomes the right pixels and labels, or a refusal with a way out."""

import numpy as np
import pytest

from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from tests.helpers.conversion import left_over, read_split
from tests.helpers.layouts import (
    COLORED,
    FLAT,
    LABELS,
    LAYOUTS,
    NAMES,
    NUM_ROWS,
    PIXELS,
    labelled,
    text_of,
    write,
)
from tools import csv_to_tfrecord

HEADER = ["label", *PIXELS]


def convert(folder, *args):
    csv_to_tfrecord.main([*args, f"--out={folder}/out"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_read(tmp_path, capsys, name):
    case = LAYOUTS[name](tmp_path)
    convert(tmp_path, *case.args)
    manifest = load_manifest(tmp_path / "out")
    images, labels, ids = read_split(tmp_path / "out", case.split)
    rows = list(case.rows)
    np.testing.assert_array_equal(images.reshape(-1, *manifest.image_shape), case.images[rows])
    assert [manifest.class_names[label] for label in labels] == [case.labels[row] for row in rows]
    if case.ids is not None:
        assert ids.tolist() == case.ids
    printed = capsys.readouterr().err
    assert all(fragment in printed for fragment in case.says), printed
    assert bool(printed) == bool(case.says), printed


UNIT = labelled(LABELS, (np.array(FLAT) / 255).tolist())
TABLE = labelled(LABELS, FLAT)
COLOR_PIXELS = [f"pixel{k}" for k in range(48)]
COLOR_TABLE = labelled(LABELS, COLORED.reshape(NUM_ROWS, -1).tolist())
WRITER = text_of(["label", "writer", *PIXELS], [[row[0], 3, *row[1:]] for row in TABLE])
ROLES = ["a", "a", "a", "b", "b", "b", "b"]
USAGE = text_of([*HEADER, "Usage"], [[*row, role] for row, role in zip(TABLE, ROLES, strict=True)])
TRAINING = USAGE.replace(",a\n", ",Training\n").replace(",b\n", ",PublicTest\n")
TEXT_LATE = text_of(HEADER, [*TABLE, ["x", *FLAT[0]]])
IDS_LATE = text_of(["id", *HEADER], [[1, *TABLE[0]], ["b", *TABLE[1]]])
HIGH = text_of(HEADER, labelled(LABELS, (np.array(FLAT) * 4).tolist()))

# Text, arguments, what the refusal names, and the arguments that then read the file.
REFUSALS = {
    "pixels of 0 to 1": (
        text_of(HEADER, UNIT),
        [],
        ["train.csv, line 2: column 'pixel1': '0.", "values here run from 0", "--pixel-range 0 1 "],
        ["--pixel-range", "0", "1"],
    ),
    "pixels of -1 to 1": (
        text_of(HEADER, labelled(LABELS, (np.array(FLAT) / 127.5 - 1).tolist())),
        [],
        ["train.csv, line 2: column 'pixel", "--pixel-range -1 1 "],
        ["--pixel-range", "-1", "1"],
    ),
    "pixels of 0 to 1 between semicolons": (
        text_of(HEADER, UNIT, ";"),
        [],
        ["train.csv, line 2: pixel 1 (counted from 0): 0.", "--pixel-range 0 1 "],
        ["--pixel-range", "0", "1"],
    ),
    "larger pixels": (HIGH, [], ["is outside 0..255", "--pixel-range 0 1023"], ["--pixel-range", "0", "1023"]),
    "a range that is too small": (HIGH, ["--pixel-range", "0", "9"], ["outside --pixel-range 0 9"], None),
    "a half": (text_of(HEADER, TABLE) + "1" + ",12.5" * 16, [], ["line 9", "'12.5' is not a plain integer"], None),
    "an extra column": (WRITER, [], ["extra column 'writer'", "--drop-column"], ["--drop-column=writer"]),
    "two labels": (
        WRITER.replace("writer", "character"),
        [],
        ["'label' and 'character'", "--label-column", "--drop-column"],
        ["--drop-column=character"],
    ),
    "a column of splits": (TRAINING, [], ["extra column 'Usage'", "--split-column"], ["--split-column=Usage"]),
    "an option for a column that no file has": (
        text_of(HEADER, TABLE),
        ["--drop-column=writer"],
        ["no column 'writer' for --drop-column; it has 'label', 'pixel0', 'pixel1', ..."],
        None,
    ),
    "a column of splits, not named": (
        TRAINING.replace(",".join(PIXELS), ",".join("abcdefghijklmnop")),
        [],
        ["line 2: column 'Usage': 'Training' is the name of a split", "--split-column Usage", "--drop-column Usage"],
        ["--split-column=Usage"],
    ),
    "a column of splits with unusual names": (
        USAGE,
        ["--split-column=Usage"],
        ["column 'Usage' has 'a', 'b'", "--split-map VALUE=NAME"],
        ["--split-map", "a=train", "b=none"],
    ),
    "a column of splits has val, and a fraction is to be drawn": (
        TRAINING,
        ["--split-column=Usage", "--val-fraction=0.5"],
        ["--val-fraction makes the split 'val'", "drop either"],
        None,
    ),
    "no row of a split is left": (
        TRAINING,
        ["--split-column=Usage", "--split-map", "Training=none", "PublicTest=none"],
        ["column 'Usage' leaves no row"],
        None,
    ),
    "a name among numbers as labels": (
        TEXT_LATE,
        [],
        ["line 9", "'x' is not a plain non-negative integer", "--text-column label"],
        ["--text-column=label"],
    ),
    "a name among numbers as labels, between tabs": (
        TEXT_LATE.replace(",", "\t"),
        [],
        ["line 9: column 'label': 'x'", "--text-column label"],
        ["--text-column=label"],
    ),
    "a name among numbers as ids": (IDS_LATE, [], ["line 3", "'b'", "--text-column id"], ["--text-column=id"]),
    "a label below 0": (
        text_of(HEADER, labelled([-1, *LABELS[1:]], FLAT)),
        [],
        ["line 2: column 'label': '-1' is not a plain non-negative integer", "--text-column label"],
        ["--text-column=label"],
    ),
    "a comment": ("# from somewhere\n" + text_of(HEADER, TABLE), [], ["train.csv, line 1: a comment"], None),
    "a decimal comma": (
        text_of(HEADER, [[1, "0,5", *FLAT[0][1:]]], ";"),
        [],
        ["line 2: column 'pixel0': '0,5' is written with a decimal comma"],
        None,
    ),
    "columns of several kinds": (
        text_of(["writer", "page", *HEADER], [[3, 4, *row] for row in TABLE]),
        [],
        ["extra columns 'writer', 'page': not pixels like 'pixel0'"],
        ["--drop-column=writer", "--drop-column=page"],
    ),
    "an index that repeats": (
        text_of(["", *HEADER], [[3, *row] for row in TABLE]),
        [],
        ["line 3: id 3 is a duplicate", "--id-column none"],
        ["--id-column=none"],
    ),
    "text among pixels": (
        text_of(["label", *"abcdefghijklmnop", "writer"], [[*row, "anna"] for row in TABLE]),
        [],
        ["line 2: column 'writer': 'anna' is not a plain integer", "--drop-column writer"],
        ["--drop-column=writer"],
    ),
    "names in a column of an unusual name": (
        text_of(["kind", *"abcdefghijklmnop"], labelled(NAMES, FLAT)),
        [],
        ["line 2: column 'kind': 'cow' is not a plain integer", "--label-column", "--drop-column kind"],
        ["--label-column=kind"],
    ),
    "text among pixels further down": (
        text_of(["label", *"abcdefghijklmno", "writer"], [*TABLE, [*TABLE[0][:-1], "anna"]], ";"),
        [],
        ["line 9: column 'writer': 'anna' is not a number", "--drop-column writer"],
        None,
    ),
    "text among pixels between tabs": (
        text_of(["label", *"abcdefghijklmnop", "writer"], [[*row, "anna"] for row in TABLE], "\t"),
        [],
        ["line 2: column 'writer': 'anna' is not", "--drop-column writer"],
        ["--drop-column=writer"],
    ),
    "three planes given as torch does": (
        text_of(["label", *COLOR_PIXELS], COLOR_TABLE),
        ["--image-shape", "3", "4", "5"],
        ["--image-shape 4 5 3 --layout CHW", "--layout HWC"],
        None,
    ),
    "colors without a shape": (
        text_of(["label", *COLOR_PIXELS], COLOR_TABLE),
        [],
        ["48 pixel columns", "--image-shape 4 4 3", "--layout CHW for planes"],
        ["--image-shape", "4", "4", "3"],
    ),
    "many channels": (
        text_of(["label", *COLOR_PIXELS], COLOR_TABLE),
        ["--image-shape", "2", "2", "12"],
        ["12 channels", "--layout HWC"],
        None,
    ),
    "no labels": (
        text_of(PIXELS, FLAT),
        [],
        ["no labels, which 'train' needs", "--label-column", "--labels train=FILE"],
        ["--labels=train={folder}/labels.csv"],
    ),
    "too few labels": (
        text_of(PIXELS, [*FLAT, FLAT[0]]),
        ["--labels=train={folder}/labels.csv"],
        ["labels.csv: 7 labels, but", "train.csv has more rows"],
        None,
    ),
    "too many labels": (
        text_of(PIXELS, FLAT[1:]),
        ["--labels=train={folder}/labels.csv"],
        ["labels.csv: 7 labels, but", "train.csv has 6 rows"],
        None,
    ),
    "labels twice": (
        text_of(HEADER, TABLE),
        ["--labels=train={folder}/labels.csv"],
        ["train.csv: has labels itself", "--drop-column label"],
        ["--drop-column=label"],
    ),
    "one-hot labels that are not": (
        text_of(HEADER, TABLE),
        ["--one-hot-labels=3"],
        ["neither the last nor the first 3 of 17 columns", "--one-hot-labels"],
        None,
    ),
    "one-hot labels, one row of which is not": (
        text_of([*PIXELS, "a", "b"], [[*row, 1, k // 6] for k, row in enumerate(FLAT)]),
        ["--one-hot-labels=2"],
        ["line 8: its one-hot label is not a single 1"],
        None,
    ),
    "no header": (
        text_of(None, [[3.0, *[0.0] * 15, 255.0], [4.0, *map(float, range(16))]]),
        [],
        ["is repeated", "--no-header"],
        ["--no-header", "--label-column=0"],
    ),
    "a row that is too short": (text_of(HEADER, TABLE, ";") + "1;2\n", [], ["line 9: column 'pixel1' is empty"], None),
    "a row that is too long": (text_of(HEADER, TABLE, ";") + "1;" * 30 + "\n", [], ["train.csv: ", "17 columns"], None),
    "a cell of fewer pixels": ("label,pixels\n1,1 2 3 4\n1,1 2 3\n", [], ["line 3: 3 pixels, another row has 4"], None),
    "a cell of text": ("label,pixels\n1,1 2 3 4\n1,1 2 3 x\n", [], ["line 3: pixel 'x' is not a number"], None),
    "a cell that ends in text": ("label,pixels\n1,1 2 3 4x\n", [], ["line 2: pixel '4x' is not a number"], None),
    "no label in a row": (
        text_of(HEADER, labelled([*NAMES[:6], ""], FLAT)),
        [],
        ["line 8: column 'label' is empty"],
        None,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_the_options_that_read_the_file(tmp_path, name):
    text, args, fragments, more = REFUSALS[name]
    (tmp_path / "labels.csv").write_text(text_of(["label"], [[label] for label in LABELS]))
    split = write(tmp_path, text)

    def convert_with(args):
        convert(tmp_path, split, *(arg.format(folder=tmp_path) for arg in args))

    with pytest.raises(InputError) as caught:
        convert_with(args)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
    assert "\n" not in str(caught.value)
    assert left_over(tmp_path) == []
    if more is not None:
        convert_with([*args, *more])
        assert load_manifest(tmp_path / "out").splits["train"].num_examples > 0


def test_names_of_one_file_are_those_of_all(tmp_path):
    """A split whose labels happen to be numbers is read as names, too; classes are sorted over all files."""
    train = write(tmp_path, text_of(HEADER, labelled([*NAMES[:6], "7"], FLAT)))
    test = write(tmp_path, text_of(HEADER, labelled(["7"] * NUM_ROWS, FLAT)), "test.csv")
    convert(tmp_path, train, test)
    manifest = load_manifest(tmp_path / "out")
    assert manifest.class_names == ("7", "bird", "cat", "cow")
    assert manifest.splits["test"].class_counts == (NUM_ROWS, 0, 0, 0)


def test_names_and_numbers_in_one_hot_columns_are_refused(tmp_path):
    train = write(tmp_path, text_of(HEADER, labelled(NAMES, FLAT)))
    (tmp_path / "labels.csv").write_text("label\n" + "1\n" * NUM_ROWS)
    test = write(tmp_path, text_of(PIXELS, FLAT), "test.csv")
    with pytest.raises(InputError, match="its labels are numbers, but those of .*train.csv are names"):
        convert(tmp_path, train, test, f"--labels=test={tmp_path}/labels.csv")


@pytest.mark.parametrize(("split", "meant"), [("training", "train"), ("dev", "val")])
def test_name_of_a_split_that_training_does_not_use_is_said(tmp_path, capsys, split, meant):
    convert(tmp_path, write(tmp_path, text_of(HEADER, TABLE), f"{split}.csv"))
    assert (
        f"split '{split}': train.py trains on 'train' and validates on 'val'; is it '{meant}'?"
        in capsys.readouterr().err
    )


def test_options_are_checked_before_a_file_is_read():
    for options, fragment in [
        ({"image_shape": (2, 0, 1)}, "--image-shape 2 0 1 must be three positive integers"),
        ({"pixel_range": (1.0, 0.0)}, "--pixel-range 1 0: give two numbers, the smaller one first"),
        ({"one_hot_labels": 1}, "--one-hot-labels 1"),
        ({"separator": "::"}, "--separator '::'"),
        ({"layout": "WHC"}, "--layout 'WHC': choose one of HWC, CHW"),
    ]:
        with pytest.raises(InputError) as caught:
            ReadOptions(**options)
        assert fragment in str(caught.value)
