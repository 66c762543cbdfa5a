"""The real Kannada-MNIST, if KANNADA_MNIST_DIR names the folder that holds it and its to_csv.py."""

import csv
import itertools
import os
import pathlib
import sys

import numpy as np
import pytest

from pipeline.format.manifest import load_manifest
from tests.helpers import faults
from tests.helpers.conversion import read_split

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def kannada(tmp_path_factory):
    """A folder with the CSVs as Kaggle serves them."""
    given = os.environ.get("KANNADA_MNIST_DIR")
    if not given or not (pathlib.Path(given) / "to_csv.py").is_file():
        pytest.skip("set KANNADA_MNIST_DIR to the folder with the real data and its to_csv.py")
    folder = tmp_path_factory.mktemp("kannada")
    run(folder, pathlib.Path(given) / "to_csv.py", folder)
    return folder


def run(folder, *command):
    done = faults.run([sys.executable, faults.ROOT / command[0], *command[1:]], cwd=folder)
    assert done.returncode == 0, done.err


def test_whole_set_is_converted_exactly(kannada):
    splits = [
        f"--split={name}={file}"
        for name, file in (("train", "train.csv"), ("test", "test.csv"), ("dig", "Dig-MNIST.csv"))
    ]
    run(kannada, "tools/csv_to_tfrecord.py", *splits, "--val-fraction", "0.1", "--out", "data/kannada")
    manifest = load_manifest(kannada / "data/kannada")
    sizes = {name: split.num_examples for name, split in manifest.splits.items()}
    assert sizes == {"train": 54_000, "val": 6_000, "test": 10_000, "dig": 10_240}
    assert set(manifest.split("val").class_counts) == {600}
    images, _, ids = read_split(kannada / "data/kannada", "test")
    with (kannada / "test.csv").open() as file:
        for place, row in enumerate(itertools.islice(csv.reader(file), 1, 100)):
            assert ids[place] == int(row[0])
            np.testing.assert_array_equal(images[place], np.array(row[1:], np.uint8))


def test_tenth_of_it_is_learned_in_two_epochs(kannada):
    with (kannada / "train.csv").open() as whole, (kannada / "part.csv").open("w") as part:
        part.writelines(itertools.islice(whole, 6001))
    run(kannada, "tools/csv_to_tfrecord.py", "--split=train=part.csv", "--val-fraction", "0.1", "--out", "data/part")
    run(kannada, "train.py", "--data", "data/part", "--recipe", "fast", "--epochs", "2", "--precision", "float32")
    history = list(csv.DictReader((kannada / "runs/part/history.csv").open()))
    assert float(history[-1]["val_accuracy"]) > 0.95
