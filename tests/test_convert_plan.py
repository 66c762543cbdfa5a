import gzip
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.convert import plan
from pipeline.convert.csv import reader as csv_reader
from pipeline.convert.csv.reader import CsvFile, ReadOptions
from pipeline.convert.plan import Rules, make_plan, shard_bounds
from pipeline.convert.workers import Workers
from pipeline.errors import InputError
from pipeline.format.manifest import Validation
from tests.helpers.conversion import table, write_sources


def plan_of(folder, texts, shards=1, workers=1, options=None, **rules):
    inputs = {}
    for split, path in write_sources(folder, texts):
        inputs.setdefault(split, []).append(CsvFile(path, options or ReadOptions()))
    with Workers(workers) as pool:
        return make_plan(inputs, Rules("data", (2, 2, 1), shards, **rules), pool)


def shards_of(result, split):
    """(name, records) of each planned shard of a split of the result."""
    return [shard for task in result.tasks for shard in task.outputs.get(split, ())]


FILES = st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=6)


@given(FILES, st.integers(1, 300))
def test_number_of_shards_is_exact_and_none_is_empty(files, asked):
    rows, seekable = zip(*files, strict=True)
    num_shards = min(asked, sum(rows))
    sizes = np.diff(shard_bounds(rows, seekable, num_shards))
    assert (len(sizes), sum(sizes), min(sizes) > 0) == (num_shards, sum(rows), True)
    if all(seekable):
        assert max(sizes) - min(sizes) <= 1


@given(FILES, st.integers(0, 300))
def test_no_shard_has_rows_of_two_files_if_one_is_compressed_and_there_are_enough(files, more):
    rows, seekable = zip(*files, (1, False), strict=True)
    bounds = shard_bounds(rows, seekable, min(len(rows) + more, sum(rows)))
    starts = list(itertools.accumulate(rows, initial=0))
    assert set(starts) <= set(bounds)
    for start, stop in itertools.pairwise(starts):
        sizes = np.diff([row for row in bounds if start <= row <= stop])
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shards", [1, 2, 7, 30])
@pytest.mark.parametrize("packed", [(), (0,), (1,), (0, 1, 2)])
def test_tasks_cover_all_rows_in_order(tmp_path, shards, packed):
    texts = [table(rows).encode() for rows in (10, 5, 15)]
    texts = [gzip.compress(text) if k in packed else text for k, text in enumerate(texts)]
    result = plan_of(tmp_path, {"train": texts, "test": table(4, "id")}, shards)
    train = [task for task in result.tasks if task.split == "train"]
    assert [task.index for task in result.tasks] == list(range(len(result.tasks)))
    assert [task.first_row for task in train] == list(
        itertools.accumulate([0, *(task.num_rows for task in train[:-1])])
    )
    assert result.num_rows == 34
    rows = []
    for segment in (segment for task in train for segment in task.segments):
        for block in segment.file.read(segment.start, segment.stop):
            rows += segment.file.parse(block).images[:, 0].tolist()
    assert rows == [*range(10), *range(5), *range(15)]
    assert [name for name, _ in shards_of(result, "train")] == [
        f"data-train.tfrecord-{k:05d}-of-{shards:05d}" for k in range(shards)
    ]


def test_tasks_of_compressed_files_are_independent(tmp_path):
    packed = [gzip.compress(table(rows).encode()) for rows in (10, 20, 5)]
    result = plan_of(tmp_path, {"train": [*packed, table(30)]}, shards=10)
    files = [[segment.file.path.name for segment in task.segments] for task in result.tasks]
    assert files[:3] == [["train0.csv"], ["train1.csv"], ["train2.csv"]]
    assert files[3:] == [["train3.csv"]] * (len(files) - 3)
    assert len(files) > 4


def test_validation_shards_are_numbered_without_gaps(tmp_path):
    result = plan_of(tmp_path, {"train": table(100)}, shards=10, validation=Validation(0.3, 10, "train", 1))
    for split in ("train", "val"):
        names = [name for name, _ in shards_of(result, split)]
        assert 0 < len(names) < 10
        assert names == [f"data-{split}.tfrecord-{k:05d}-of-{len(names):05d}" for k in range(len(names))]
    assert all(count > 0 for split in ("train", "val") for _, count in shards_of(result, split))
    assert result.planned_shards == {"train": 10}


def test_number_of_shards_follows_from_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_BYTES", 10 * Rules("data", (2, 2, 1)).layout.stride)
    assert plan_of(tmp_path, {"train": table(101), "test": table(4)}, None).planned_shards == {"train": 11, "test": 1}


def test_plan_does_not_depend_on_blocks_or_workers(tmp_path, monkeypatch):
    rules = {"shards": 7, "validation": Validation(0.2, None, "train", 3)}
    expected = plan_of(tmp_path, {"train": table(500)}, **rules)
    for block_bytes in (1, 100, 5000):
        other = plan_of(
            tmp_path, {"train": table(500)}, workers=2, options=ReadOptions(block_bytes=block_bytes), **rules
        )
        assert [task.fingerprint for task in other.tasks] == [task.fingerprint for task in expected.tasks]
    monkeypatch.setattr(csv_reader, "SCAN_BYTES", 999)
    other = plan_of(tmp_path, {"train": table(500)}, workers=2, **rules)
    for task, twin in zip(other.tasks, expected.tasks, strict=True):
        assert (task.drawn, task.outputs) == (twin.drawn, twin.outputs)
        assert [segment.start for segment in task.segments] == [segment.start for segment in twin.segments]
    assert other.class_counts == expected.class_counts


CHANGES = {
    "a pixel": {"train": table(60).replace(",7,", ",8,", 1)},
    "a label": {"train": table(60, value=lambda k: k % 3 if k else 1)},
    "columns": {"train": table(60, "key"), "validation": Validation(0.2)},
    "shards": {"shards": 5},
    "seed": {"validation": Validation(0.2, seed=1)},
    "a class": {"classes": lambda labels: ((*labels, 9), (*map(str, labels), "9"))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprints_pin_sources_and_rules(tmp_path, change):
    options = {"train": table(60), "shards": 4, "validation": Validation(0.2)}
    prints = []
    for changed in ({}, CHANGES[change]):
        read = ReadOptions(label_column="none", id_column="key") if change == "columns" and changed else ReadOptions()
        train, shards, validation, *rest = {**options, **changed}.values()
        rules = {"classes": rest[0]} if rest else {}
        result = plan_of(tmp_path, {"train": train}, shards, options=read, validation=validation, **rules)
        prints.append({task.fingerprint for task in result.tasks})
    assert prints[0].isdisjoint(prints[1])


def test_classes_are_those_of_all_splits(tmp_path):
    result = plan_of(tmp_path, {"train": table(9), "test": table(4, value=lambda k: k + 7), "extra": table(3, "id")})
    assert result.class_names == ("0", "1", "2", "7", "8", "9", "10")
    assert result.class_counts == {"train": (3, 3, 3, 0, 0, 0, 0), "test": (0, 0, 0, 1, 1, 1, 1), "extra": ()}


@pytest.mark.parametrize("label", [2**32, 2**53 + 1, 2**63 - 1])
def test_long_labels_stay_exact_beside_files_without_labels(tmp_path, label):
    # NumPy joins uint64 and a signed type to float64.
    result = plan_of(tmp_path, {"train": table(9, value=lambda k: label * (k % 2)), "test": table(3, "id")})
    assert result.class_names == ("0", str(label))


def test_too_many_labels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MAX_CLASSES", 5)
    with pytest.raises(InputError, match="train0.csv: over 5 different labels; is the label column the right one"):
        plan_of(tmp_path, {"train": table(3), "test": table(3, value=lambda k: k + 3)})


@pytest.mark.parametrize(
    ("rows", "rule", "split"),
    [(3, Validation(0.01, None, "train", 1), "val"), (1, Validation(0.999999, 9, "train", 7), "train")],
)
def test_split_without_rows_is_refused(tmp_path, rows, rule, split):
    with pytest.raises(InputError, match=f"no row is left for '{split}' out of {rows}; choose another fraction"):
        plan_of(tmp_path, {"train": table(rows)}, validation=rule)
