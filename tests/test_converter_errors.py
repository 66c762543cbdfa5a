import pytest

from pipeline.convert.converter import ConvertConfig, convert
from pipeline.errors import InputError
from tests.helpers.conversion import GOOD, PIXELS, convert_texts, left_over, table

WRONG_FILES = {
    "duplicate id": (
        {"test": [table(5, "id", lambda k: 9 - k), table(6, "id", lambda k: k)]},
        {},
        ["test1.csv, line 7: column 'id': id 5", "line 6 of"],
    ),
    "duplicate id in one file": (
        {"test": table(5, "id", lambda k: k % 4)},
        {},
        ["test0.csv, line 6", "id 0", "line 2 of"],
    ),
    "labels in one file of a split": (
        {"train": [GOOD, table(3, "id", lambda k: k)]},
        {},
        ["train1.csv, line 1", "no label column"],
    ),
    "other number of pixels": (
        {"train": GOOD, "test": "label,p0\n1,2\n"},
        {},
        ["test0.csv, line 1", "1 pixel columns", "has 4"],
    ),
    "other pixel names": ({"train": GOOD, "test": GOOD.replace("p", "q")}, {}, ["test0.csv, line 1", "'q0'", "'p0'"]),
    "not square": ({"train": "label,a,b\n1,2,3\n"}, {}, ["train0.csv, line 1", "not a square", "--image-shape"]),
    "wrong value in the last split": (
        {"train": GOOD, "test": GOOD + "1,2,3,4,256\n"},
        {},
        ["test0.csv, line 12", "'p3'", "'256'"],
    ),
    "no such label column": ({"train": GOOD}, {"label_column": "lable"}, ["'lable' for --label-column", "'label'"]),
    "no such label column at all": (
        {"train": table(3, "kind")},
        {"label_column": "lable", "id_column": "kind"},
        ["no column 'lable' for --label-column", "it has 'kind', 'p0'"],
    ),
    "no such id column": ({"train": GOOD}, {"id_column": "key"}, ["'key'", "--id-column"]),
    "nothing left for validation": (
        {"train": table(3)},
        {"val_fraction": 0.01, "seed": 1},
        ["no row is left for 'val'"],
    ),
    "nothing left for train": (
        {"train": table(1)},
        {"val_fraction": 0.999999, "val_group_size": 9, "seed": 7},
        ["no row is left for 'train'"],
    ),
    "header alone": ({"train": f"label,{PIXELS}\n"}, {}, ["a header alone"]),
}


@pytest.mark.parametrize("case", WRONG_FILES)
@pytest.mark.parametrize("out", ["data", "new/parents/data"])
def test_wrong_files_are_one_line_and_leave_nothing(tmp_path, case, out):
    texts, options, fragments = WRONG_FILES[case]
    with pytest.raises(InputError) as caught:
        convert_texts(tmp_path, texts, out, **options)
    assert all(fragment in str(caught.value) for fragment in fragments), caught.value
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"shards": 0}, "--shards 0"),
        ({"shards": 100_000}, "--shards 100000"),
        ({"val_fraction": 1.0}, "--val-fraction 1.0"),
        ({"val_fraction": -0.1}, "--val-fraction -0.1"),
        ({"val_fraction": float("nan")}, "--val-fraction nan"),
        ({"val_group_size": 10}, "--val-group-size needs"),
        ({"val_fraction": 0.1, "val_group_size": 0}, "--val-group-size 0 must be 1"),
        ({"val_fraction": 0.1, "splits": (("test", "a"),)}, "no --split train=FILE"),
        ({"val_fraction": 0.1, "splits": (("train", "a"), ("val", "b"))}, "'val', but --split gives one"),
        ({"splits": ()}, "no split given"),
        ({"splits": (("tr ain", "a"),)}, "'tr ain'"),
        ({"splits": (("../up", "a"),)}, "'../up'"),
        ({"splits": (("all", "a"),)}, "'all'"),
        ({"splits": (("", "a"),)}, "''"),
        ({"image_shape": (2, 0, 1)}, "--image-shape 2 0 1"),
        ({"seed": -1}, "--seed -1"),
        ({"out": "/"}, "needs a name"),
    ],
)
def test_options_that_cannot_be_are_an_error(options, fragment):
    with pytest.raises(InputError) as caught:
        ConvertConfig(**{"splits": (("train", "a"),), "out": "data", **options})
    assert fragment in str(caught.value)


def test_a_file_given_twice_is_an_error_also_under_another_name(tmp_path):
    path, link = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(GOOD)
    link.symlink_to(path)
    with pytest.raises(InputError, match="b.csv: given twice, for split 'train' and for split 'test'"):
        convert(ConvertConfig(splits=(("train", path), ("test", link)), out=tmp_path / "data"))
