"""Every layout of a table of text that people have becomes the right pixels and labels, or a refusal with a way out."""

import numpy as np
import pytest

from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from tests.helpers import pixel_layouts  # noqa: F401 - adds its layouts
from tests.helpers.conversion import left_over, read_split
from tests.helpers.layouts import (
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
from tests.helpers.refusals import HEADER, REFUSALS, TABLE
from tools import csv_to_tfrecord


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
    shown = [manifest.class_names[label] for label in labels] if manifest.class_names else None
    assert shown == (None if case.labels is None else [case.labels[row] for row in rows])
    if case.ids is not None:
        assert ids.tolist() == case.ids
    printed = capsys.readouterr().err
    assert all(fragment in printed for fragment in case.says), printed
    assert bool(printed) == bool(case.says), printed


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


@pytest.mark.parametrize(("split", "meant"), [("training", "train"), ("dev", "val"), ("Train", "train")])
def test_name_of_a_split_that_training_does_not_use_is_said(tmp_path, capsys, split, meant):
    convert(tmp_path, write(tmp_path, text_of(HEADER, TABLE), f"{split}.csv"))
    assert (
        f"split '{split}': train.py trains on 'train' and validates on 'val'; is it '{meant}'?"
        in capsys.readouterr().err
    )


def test_labels_without_a_split_for_training_are_noticed(tmp_path, capsys):
    convert(tmp_path, write(tmp_path, text_of(HEADER, TABLE), "digits.csv"))
    assert "no split is called 'train', which train.py trains on; there is 'digits'" in capsys.readouterr().err


def test_options_are_checked_before_a_file_is_read():
    for options, fragment in [
        ({"image_shape": (2, 0, 1)}, "--image-shape 2 0 1 must be three positive integers"),
        ({"pixel_range": (1.0, 0.0)}, "--pixel-range 1 0: give two numbers, the smaller one first"),
        ({"image_size": (0, 8)}, "--image-size 0 8 must be two positive integers"),
        ({"channels": 2}, "--channels 2 must be 1 (gray) or 3 (RGB)"),
        ({"one_hot_labels": 1}, "--one-hot-labels 1"),
        ({"separator": "::"}, "--separator '::'"),
        ({"layout": "WHC"}, "--layout 'WHC': choose one of HWC, CHW"),
    ]:
        with pytest.raises(InputError) as caught:
            ReadOptions(**options)
        assert fragment in str(caught.value)
