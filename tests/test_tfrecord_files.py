"""Finding files; tests/test_tfrecord_reader.py reads records."""

import pytest

from pipeline.convert.tfrecords.files import find_tfrecords
from pipeline.errors import InputError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def found(folder, *patterns):
    files = find_tfrecords(folder, patterns)
    return {split: [str(path.relative_to(folder)) for path in paths] for split, paths in files.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ("mnist-test.tfrecord-00000-of-00001", "mnist-train.tfrecord-00000-of-00001", "features.json"),
            {"train": ["mnist-train.tfrecord-00000-of-00001"], "test": ["mnist-test.tfrecord-00000-of-00001"]},
        ),
        (("train-00001-of-00002", "train-00000-of-00002"), {"train": ["train-00000-of-00002", "train-00001-of-00002"]}),
        (
            ("a-train.tfrecord-00000", "a-train.tfrecord-00001"),
            {"train": ["a-train.tfrecord-00000", "a-train.tfrecord-00001"]},
        ),
        (("train.tfrecords", "val.tfrec"), {"train": ["train.tfrecords"], "val": ["val.tfrec"]}),
        (("train.tfrecord.gz",), {"train": ["train.tfrecord.gz"]}),
        (
            ("test/00-192x192-7.tfrec", "train/01-192x192-8.tfrec", "train/00-192x192-8.tfrec", "train/a.txt"),
            {
                "train": ["train/00-192x192-8.tfrec", "train/01-192x192-8.tfrec"],
                "test": ["test/00-192x192-7.tfrec"],
            },
        ),
    ],
)
def test_splits_are_those_of_names_or_folders(tmp_path, names, expected):
    assert found(touch(tmp_path, *names)) == expected


def test_patterns_give_splits_to_files_of_any_names(tmp_path):
    touch(tmp_path, "part-0", "part-1", "held/out-0", "other.txt")
    files = found(tmp_path, ("train", "part-*"), ("val", "held/*"))
    assert files == {"train": ["part-0", "part-1"], "val": ["held/out-0"]}
    with pytest.raises(InputError, match="no file is named like 'none-.', which --split test asks for"):
        find_tfrecords(tmp_path, [("test", "none-*")])


INVALID = {
    "missing shard": (("train-00000-of-00003", "train-00002-of-00003"), "split 'train': shard 1 is missing"),
    "missing shard of an unknown number": (("a-train.tfrecord-00001",), "split 'train': shard 0 is missing"),
    "two counts": (("train-00000-of-00001", "train-00001-of-00002"), "their names give different numbers of shards"),
    "twice": (("a-train-00000-of-00001", "b-train-00000-of-00001"), "the same shard as a-train-00000-of-00001; remove"),
    "other files": (
        ("notes.txt",),
        "no TFRecords; they have names like NAME-train.tfrecord-00000-of-00008; it holds notes",
    ),
    "no split in names": (
        ("part-0.tfrecord", "part-1.tfrecord"),
        "do not say their split; .* --split train='.*.tfrecord'",
    ),
    "array_record": (
        ("a-train.array_record-00000-of-00001",),
        "holds array_record files, not TFRecords; give it to --tfds",
    ),
    "deeper": (("mnist/3.0.1/mnist-train.tfrecord-00000-of-00001",), "no TFRecords, but .*/mnist/3.0.1 has some; give"),
    "empty": ((), "it holds no file; other files are converted by tools/csv_to_tfrecord.py"),
}


@pytest.mark.parametrize("case", INVALID)
def test_directory_without_a_whole_split_is_one_line(tmp_path, case):
    names, message = INVALID[case]
    with pytest.raises(InputError, match=message) as caught:
        find_tfrecords(touch(tmp_path, *names))
    assert "\n" not in str(caught.value)


def test_missing_directory_and_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="none: no such directory"):
        find_tfrecords(tmp_path / "none")
    with pytest.raises(InputError, match="a.tfrecord: a file; give the folder it is in"):
        find_tfrecords(touch(tmp_path, "a.tfrecord") / "a.tfrecord")
    with pytest.raises(InputError, match="a.csv: not a folder; other files are converted by tools/csv_to_tfrecord.py"):
        find_tfrecords(touch(tmp_path, "a.csv") / "a.csv")
