import pytest

from pipeline.convert.config import ConvertConfig
from pipeline.errors import InputError
from pipeline.format.manifest import Validation


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"shards": 0}, "--shards 0"),
        ({"shards": 100_000}, "--shards 100000"),
        ({"workers": 0}, "--workers 0"),
        ({"workers": 257}, "--workers 257"),
        ({"val_fraction": 1.0}, "--val-fraction 1.0"),
        ({"val_fraction": -0.1}, "--val-fraction -0.1"),
        ({"val_fraction": float("nan")}, "--val-fraction nan"),
        ({"val_fraction": 1e-9}, "validation fraction 1e-09"),
        ({"val_group_size": 10}, "--val-group-size needs"),
        ({"val_fraction": 0.1, "val_group_size": 0}, "--val-group-size 0: it must be at least 1"),
        ({"val_fraction": 0.1, "val_group_size": 2**63}, "it must be below 9,223,372,036,854,775,808"),
        (
            {"val_fraction": 0.1, "splits": (("test", "a"),)},
            "out of 'train' for a new split 'val'; the data have: test",
        ),
        ({"val_fraction": 0.1, "splits": (("train", "a"), ("val", "b"))}, "the data have: train, val"),
        ({"splits": ()}, "no split given"),
        ({"splits": (("tr ain", "a"),)}, "'tr ain'"),
        ({"splits": (("../up", "a"),)}, "'../up'"),
        ({"splits": (("all", "a"),)}, "'all'"),
        ({"splits": (("", "a"),)}, "''"),
        ({"splits": (("x" * 201, "a"),)}, "file names allow 200"),
        ({"seed": -1}, "--seed -1"),
        ({"labels": (("test", "x"),)}, "--labels test=x: no --split test=FILE"),
        ({"split_map": (("a", "train"),)}, "--split-map needs --split-column"),
        ({"split_map": (("a", "tr ain"),), "split_column": "part"}, "'tr ain'"),
        ({"out": "/"}, "needs a name"),
    ],
)
def test_invalid_option_is_an_error(options, fragment):
    with pytest.raises(InputError) as caught:
        ConvertConfig(**{"splits": (("train", "a"),), "out": "data", **options})
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("base", "name"), [("kannada", "kannada"), ("My Data-1", "my_data_1"), ("2024", "data_2024"), ("é", "data__")]
)
def test_name_is_the_directory_in_letters_that_tfds_allows(tmp_path, base, name):
    assert ConvertConfig(splits=(("train", "x"),), out=tmp_path / base).name == name


def test_name_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ConvertConfig(splits=(("train", "x"),), out=".").name == tmp_path.name.lower()


def test_validation_is_taken_from_train():
    config = ConvertConfig(splits=(("train", "x"),), out="data", val_fraction=0.1, val_group_size=2**63 - 1, seed=3)
    assert config.validation(["train"]) == Validation(0.1, 2**63 - 1, "train", 3)
