"""Tables that pandas reads, in the plan and the tasks of a conversion."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from pipeline.convert import converter
from pipeline.convert.csv import table as csv_table
from pipeline.convert.open_file import open_file
from pipeline.convert.read_options import ReadOptions
from pipeline.convert.repair import repair
from pipeline.convert.table import RawRows, Reader, TableFile
from pipeline.errors import InputError
from pipeline.format.manifest import load_manifest
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, convert_texts, read_split, table
from tools import csv_to_tfrecord

NAMED = table(60, value=lambda k: ("cat", "bird", "cow")[k % 3])
TEXTS = {"train": [NAMED, table(31)], "test": table(40, "", lambda k: k).replace(",", ";")}
TEXTS["test"] = "\n".join(line.partition(";")[2] if k else line for k, line in enumerate(TEXTS["test"].split("\n")))


def command(folder, *args):
    """Convert train0.csv and test0.csv of a folder by a process of its own; what it prints on stderr."""
    splits = [f"--split={name}={folder}/{name}0.csv" for name in ("train", "test")]
    argv = [sys.executable, csv_to_tfrecord.__file__, *splits, f"--out={folder}/data", *args]
    root = pathlib.Path(csv_to_tfrecord.__file__).parents[1]
    return subprocess.run(argv, capture_output=True, text=True, cwd=root, check=True).stderr


@pytest.mark.parametrize(("block_values", "processes"), [(1, False), (40, False), (1 << 20, False), (40, True)])
def test_bytes_depend_neither_on_blocks_nor_on_workers(tmp_path, monkeypatch, block_values, processes):
    convert_texts(tmp_path, TEXTS, "expected/data", val_fraction=0.2)
    monkeypatch.setattr(csv_table, "_BLOCK_VALUES", block_values)
    monkeypatch.setattr(converter, "_SMALL_BYTES", 0 if processes else 1 << 30)
    convert_texts(tmp_path, TEXTS, workers=2, val_fraction=0.2)
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "expected" / "data")
    manifest = load_manifest(tmp_path / "data")
    assert manifest.class_names == ("0", "1", "2", "bird", "cat", "cow")
    assert read_split(tmp_path / "data", "test")[0].tolist() == [[k, 0, 7, 255 - k] for k in range(40)]


@pytest.mark.parametrize(("args", "says"), [([], "resuming"), (["--pixel-range", "0", "300"], "restarting")])
def test_interrupted_conversion_resumes_with_the_same_options_only(tmp_path, args, says):
    texts = {"train": NAMED, "test": NAMED}

    def on_progress(*_):
        if list(tmp_path.glob(".data.partial/task-*.json")):
            raise SystemExit

    with pytest.raises(SystemExit):
        convert_texts(tmp_path, texts, on_progress=on_progress)
    assert f"{says} " in command(tmp_path, *args)


def test_data_set_with_such_a_table_is_not_rebuilt_from_the_other_files(tmp_path):
    convert_texts(tmp_path, TEXTS, val_fraction=0.2)
    shard = load_manifest(tmp_path / "data").splits["train"].shards[0].name
    faults.flip_bit(tmp_path / "data" / shard, 70)
    with pytest.raises(InputError, match="cannot be rebuilt, its rows do not come from plain CSVs"):
        repair(tmp_path / "data", [])


def test_file_that_changes_while_it_is_read_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(NAMED)
    file = TableFile(open_file(tmp_path / "a.csv", ReadOptions()), classes={"cat": 0, "bird": 1, "cow": 2})
    with (tmp_path / "a.csv").open("a") as stream:
        stream.write("cat,1,2,3,4\n")
    with pytest.raises(InputError, match=r"a.csv: the file changed while it was read"):
        list(map(file.parse, file.read(file.first_row, None)))


def test_label_that_appears_later_is_a_changed_file(tmp_path):
    (tmp_path / "a.csv").write_text(NAMED)
    file = TableFile(open_file(tmp_path / "a.csv", ReadOptions()), classes={"cat": 0, "bird": 1})
    with pytest.raises(InputError, match=r"a.csv: the file changed while it was read"):
        file.scan(0, None)


class Arrays(Reader):
    """A reader of arrays, which states their shape if it is given."""

    has_labels = has_ids = False

    def __init__(self, values, image_shape=None):
        self.path = pathlib.Path("arrays")
        self.values, self.image_shape = values, image_shape

    def blocks(self):
        yield RawRows(self.values, None, None)

    def labels(self):
        yield np.full(len(self.values), -1)

    def place_of(self, row):
        return f"arrays, image {row}"


VALUES = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "known", "options", "expected"),
    [
        (VALUES[..., 0], None, {}, VALUES[..., :1]),
        (VALUES[..., :3], (3, 4, 3), {}, VALUES[..., :3]),
        (VALUES, None, {"layout": "HWC"}, VALUES),
        (VALUES, None, {"layout": "CHW"}, np.moveaxis(VALUES, 1, -1)),
        (VALUES, (3, 4, 5), {"layout": "CHW"}, np.moveaxis(VALUES, 1, -1)),
        (VALUES, None, {"layout": "CHW", "transpose": True}, VALUES.transpose(0, 3, 2, 1)),
        (VALUES[..., :3], None, {"transpose": True}, VALUES[..., :3].swapaxes(1, 2)),
        (VALUES.reshape(2, -1), (3, 4, 5), {"layout": "HWC"}, VALUES),
        (VALUES.reshape(2, -1), None, {"image_shape": (4, 5, 3), "layout": "CHW"}, np.moveaxis(VALUES, 1, -1)),
        (VALUES[..., 0] / 255, None, {"pixel_range": (0, 1)}, VALUES[..., :1]),
        (VALUES[..., 0].astype(np.float32) * 2 - 9, None, {"pixel_range": (-9, 501)}, VALUES[..., :1]),
    ],
)
def test_arrays_are_arranged_by_options(values, known, options, expected):
    file = TableFile(Arrays(values, known), ReadOptions(**options))
    (block,) = file.read(file.first_row, None)
    assert file.image_shape == expected.shape[1:]
    np.testing.assert_array_equal(file.parse(block).images.reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("values", "options", "fragments"),
    [
        (VALUES, {}, ["arrays: images of 3 x 4 x 5, 5 channels", "--layout CHW", "--layout HWC"]),
        (VALUES[..., 0] * 0.5, {}, ["arrays, image 0: pixel 1 (counted from 0): 2.5 is not a whole number in 0..255"]),
        (VALUES[..., 0] / 255, {}, ["values here run from 0 to 0.", "--pixel-range 0 1 "]),
        (VALUES[..., 0] * np.nan, {}, ["arrays, image 0: pixel 0 (counted from 0): nan is not"]),
        (VALUES[..., 0].astype(int) + 255, {}, ["arrays, image 0: pixel 1", "260 is", "--pixel-range 0 1023"]),
        (VALUES[..., 0], {"pixel_range": (0, 50)}, ["55 is outside --pixel-range 0 50"]),
        (VALUES[..., 0], {"image_shape": (5, 5, 1)}, ["arrays: 12 pixels, but --image-shape 5 5 1 needs 25"]),
        (VALUES[:0], {}, ["arrays: has no rows"]),
    ],
)
def test_arrays_that_are_no_images_are_refused(values, options, fragments):
    with pytest.raises(InputError) as caught:
        file = TableFile(Arrays(values), ReadOptions(**options))
        list(map(file.parse, file.read(file.first_row, None)))
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
