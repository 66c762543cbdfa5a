import pytest

from pipeline.convert.tfrecords.config import ImportConfig
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either a directory of TFRecords or --tfds NAME"),
        ({"directory": ".", "tfds": "mnist"}, "give either a directory of TFRecords or --tfds NAME"),
        ({"directory": "no/where"}, "no/where: no such directory"),
        ({"tfds": "mnist", "data_dir": "no/where"}, "--data-dir no/where: no such directory"),
        ({"directory": ".", "data_dir": "."}, "--data-dir .: it is for --tfds only"),
        ({"tfds": "mnist", "val_fraction": 1.5}, "--val-fraction 1.5: it must be below 1"),
        ({"directory": ".", "split": ("train",)}, "--split 'train' must be NAME=PATTERN, as train='part-.'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(options, message):
    with pytest.raises(InputError, match=message):
        ImportConfig("out", **options)
