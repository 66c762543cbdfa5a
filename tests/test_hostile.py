"""Every invalid input ends in one clear line and exit code 2, or in the right result.

CI tries a few hundred. All of it (2,800 CSVs, 1,500 other tables, 1,200 sets of shards, 1,200 manifests; some
minutes), with counts of the outcomes:

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
from pipeline.convert.csv.columns import ID_NAMES, LABEL_NAMES
from pipeline.feed.resident import load_split
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import load_manifest
from tests.helpers import hostile
from tests.helpers.conversion import all_bytes, convert_texts, read_split, table
from tools import csv_to_tfrecord, inspect_tfrecord

FULL = os.environ.get("HOSTILE") == "full"


def examples(quick, full):
    """Settings for that many examples; the quick ones are always the same."""
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
    """A folder with train0.csv, test0.csv and the data set `data` converted from them."""
    folder = tmp_path_factory.mktemp("small")
    texts = {"train": table(40), "test": table(13, "id", lambda k: 100 - k)}
    convert_texts(folder, texts, shards=3, val_fraction=0.25)
    return folder


@examples(150, 2800)
@given(data=hostile.invalid_csvs())
def test_invalid_csvs(counts, data):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.csv"
        path.write_bytes(data)
        out = pathlib.Path(folder) / "data"
        code = hostile.run(csv_to_tfrecord.main, ["--split", f"rows={path}", "--out", str(out), "--shards", "2"])
        counts["CSVs converted" if code == 0 else "CSVs refused"] += 1
        if code != 0:
            assert names_in(folder) == ["a.csv"]
            return
        check_converted(out, *hostile.read_plainly(data))


@examples(60, 1500)
@given(case=hostile.invalid_tables())
def test_invalid_tables_of_other_layouts(counts, case):
    data, args = case
    with tempfile.TemporaryDirectory() as folder:
        path, out = pathlib.Path(folder) / "a.csv", pathlib.Path(folder) / "data"
        path.write_bytes(data)
        code = hostile.run(csv_to_tfrecord.main, [f"--split=train={path}", "--out", str(out), *args])
        counts["tables converted" if code == 0 else "tables refused"] += 1
        if code == 0:
            load_all(out)
        else:
            assert names_in(folder) == ["a.csv"]


def check_converted(out, header, *rows):
    """The data set has the numbers of these fields; labels may be names, and ids names that it does not store."""
    names = [name.strip().lower() for name in header]
    label = next((k for k, name in enumerate(names) if name in LABEL_NAMES), None)
    identity = next((k for k, name in enumerate(names) if name in ID_NAMES), None)
    index = 0 if names[0] == "" else None
    pixels = [k for k in range(len(names)) if k not in (label, identity, index)]
    images, labels, ids = read_split(out, "rows")
    assert images.tolist() == [[int(float(row[k])) for k in pixels] for row in rows]
    classes = load_manifest(out).class_names
    named = not all(name.isdigit() for name in classes)
    texts = [row[label].strip() for row in rows] if label is not None else []
    assert [classes[k] for k in labels if k >= 0] == [text if named else str(int(float(text))) for text in texts]
    identity = index if identity is None else identity
    if identity is not None and all(row[identity].strip().isdigit() for row in rows):
        assert ids.tolist() == [int(row[identity]) for row in rows]


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
def test_mutated_shards_are_refused_by_every_reader_and_repaired_to_the_byte(counts, small, data):
    valid = all_bytes(small / "data")
    names = sorted(name for name in valid if ".tfrecord" in name)
    stride = load_manifest(small / "data").stride
    files = data.draw(hostile.mutated_shards(valid, names, stride))
    shards_differ = any(files.get(name) != valid[name] for name in names)
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "data"
        write_files(directory, files)
        code = hostile.run(inspect_tfrecord.main, ["verify", str(directory)])
        assert code == (1 if files != valid else 0)
        code = hostile.run(lambda _: load_all(directory), [])
        assert code == (EXIT_BAD_INPUT if shards_differ else 0)
        counts["sets of shards refused" if shards_differ else "sets of shards accepted"] += 1
        csvs = [f"--from={name}={small / name}0.csv" for name in ("train", "test")]
        assert hostile.run(inspect_tfrecord.main, ["repair", str(directory), *csvs]) == 0
        repaired = all_bytes(directory)
        assert {name: repaired[name] for name in valid} == valid


@examples(100, 1200)
@given(data=st.data())
def test_hostile_manifests(counts, small, data):
    valid = all_bytes(small / "data")
    text = data.draw(hostile.hostile_manifests(valid["manifest.json"].decode()))
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "data"
        write_files(directory, {**valid, "manifest.json": text})
        shutil.copy(small / "train0.csv", folder)
        loaded = hostile.run(lambda _: load_all(directory), [])
        counts["manifests refused" if loaded else "manifests accepted"] += 1
        hostile.run(inspect_tfrecord.main, ["show", str(directory)])
        verified = hostile.run(inspect_tfrecord.main, ["verify", str(directory)])
        if loaded:
            assert verified
        assert all_bytes(directory) == {**valid, "manifest.json": text}
        csvs = [f"--from={name}={small / name}0.csv" for name in ("train", "test")]
        hostile.run(inspect_tfrecord.main, ["repair", str(directory), *csvs])
        assert names_in(folder) == ["data", "train0.csv"]
        assert pathlib.Path(folder, "train0.csv").read_bytes() == (small / "train0.csv").read_bytes()


def test_checks_fail_what_they_should():
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
