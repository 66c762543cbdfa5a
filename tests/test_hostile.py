"""Every bad input ends in one clear line and exit code 2, or in the right result.

CI tries a few hundred. All of it (2,800 CSVs, 1,200 sets of shards, 1,200 manifests; some minutes), with counts of how
they ended:

    HOSTILE=full python -m pytest -q -s tests/test_hostile.py
"""

import collections
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cli import EXIT_BAD_INPUT
from pipeline.feed.resident import load_split
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import load_manifest
from tests.helpers import hostile
from tests.helpers.conversion import all_bytes, convert_texts, read_split, table
from tools import csv_to_tfrecord, inspect_tfrecord

FULL = os.environ.get("HOSTILE") == "full"


def examples(quick, full):
    """Settings for so many examples; the quick ones are always the same."""
    return settings(
        max_examples=full if FULL else quick,
        deadline=None,
        database=None,
        derandomize=not FULL,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def counts():
    outcomes = collections.Counter()
    yield outcomes
    print("\n" + ", ".join(f"{key}: {count:,}" for key, count in sorted(outcomes.items())))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with train0.csv, test0.csv and the data set `data` made from them."""
    folder = tmp_path_factory.mktemp("small")
    texts = {"train": table(40), "test": table(13, "id", lambda k: 100 - k)}
    convert_texts(folder, texts, shards=3, val_fraction=0.25)
    return folder


@examples(150, 2800)
@given(data=hostile.bad_csvs())
def test_bad_csvs(counts, data):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.csv"
        path.write_bytes(data)
        out = pathlib.Path(folder) / "data"
        code = hostile.run(csv_to_tfrecord.main, ["--split", f"train={path}", "--out", str(out), "--shards", "2"])
        counts["CSVs converted" if code == 0 else "CSVs refused"] += 1
        if code != 0:
            assert names_in(folder) == ["a.csv"]
            return
        header, *rows = hostile.read_plainly(data)
        source = load_manifest(out).sources[0]
        names = [name.strip() for name in header]
        pixels = [k for k, name in enumerate(names) if name not in (source.label_column, source.id_column)]
        images, labels, ids = read_split(out, "train")
        assert images.tolist() == [[int(row[k]) for k in pixels] for row in rows]
        if source.label_column:
            classes = [int(name) for name in load_manifest(out).class_names]
            assert [classes[k] for k in labels] == [int(row[names.index(source.label_column)]) for row in rows]
        if source.id_column:
            assert ids.tolist() == [int(row[names.index(source.id_column)]) for row in rows]


def names_in(folder):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def write_files(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def load_all(directory):
    """Read every split by both feeds."""
    manifest = load_manifest(directory)
    for name, split in manifest.splits.items():
        arrays = load_split(directory, manifest, name)
        streamed = SplitReader(directory, manifest, name).read_rows(0, split.num_examples)
        np.testing.assert_array_equal(arrays.images, streamed.images)


@examples(60, 1200)
@given(data=st.data())
def test_mutated_shards_are_seen_by_every_reader_and_repaired_to_the_byte(counts, small, data):
    sound = all_bytes(small / "data")
    names = sorted(name for name in sound if ".tfrecord" in name)
    stride = load_manifest(small / "data").stride
    files = data.draw(hostile.mutated_shards(sound, names, stride))
    shards_differ = any(files.get(name) != sound[name] for name in names)
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "data"
        write_files(directory, files)
        code = hostile.run(inspect_tfrecord.main, ["verify", str(directory)])
        assert code == (1 if files != sound else 0)
        code = hostile.run(lambda _: load_all(directory), [])
        assert code == (EXIT_BAD_INPUT if shards_differ else 0)
        counts["sets of shards refused" if shards_differ else "sets of shards with an extra file or as they were"] += 1
        csvs = [f"--from={name}={small / name}0.csv" for name in ("train", "test")]
        assert hostile.run(inspect_tfrecord.main, ["repair", str(directory), *csvs]) == 0
        repaired = all_bytes(directory)
        assert {name: repaired[name] for name in sound} == sound


@examples(100, 1200)
@given(data=st.data())
def test_hostile_manifests(counts, small, data):
    sound = all_bytes(small / "data")
    text = data.draw(hostile.hostile_manifests(sound["manifest.json"].decode()))
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "data"
        write_files(directory, {**sound, "manifest.json": text})
        shutil.copy(small / "train0.csv", folder)
        loaded = hostile.run(lambda _: load_all(directory), [])
        counts["manifests refused" if loaded else "manifests under which the data are sound"] += 1
        hostile.run(inspect_tfrecord.main, ["show", str(directory)])
        verified = hostile.run(inspect_tfrecord.main, ["verify", str(directory)])
        if loaded:
            assert verified
        assert all_bytes(directory) == {**sound, "manifest.json": text}
        csvs = [f"--from={name}={small / name}0.csv" for name in ("train", "test")]
        hostile.run(inspect_tfrecord.main, ["repair", str(directory), *csvs])
        assert names_in(folder) == ["data", "train0.csv"]
        assert pathlib.Path(folder, "train0.csv").read_bytes() == (small / "train0.csv").read_bytes()


def test_the_oracle_fails_what_it_should():
    def leak(_):
        return len(bytearray(hostile.MEMORY_BYTES * 2))

    def crash(_):
        raise KeyError("x")

    with pytest.raises(MemoryError):
        hostile.run(leak, [])
    with pytest.raises(KeyError):
        hostile.run(crash, [])
    with pytest.raises(AssertionError):
        hostile.run(lambda _: json.loads("3"), [])
