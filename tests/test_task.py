import os
import shutil

import numpy as np
import pytest

from pipeline.convert.csv.reader import CsvFile, ReadOptions
from pipeline.convert.plan import Rules, make_plan
from pipeline.convert.task import IdRange, load_result, result_path, run_task, run_tasks
from pipeline.convert.workers import Workers
from pipeline.errors import InputError
from pipeline.format.manifest import Validation
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, table_with_ids

RULES = Rules("data", (2, 2, 1), 3, Validation(0.2))


@pytest.fixture
def plan(tmp_path):
    """A plan of three tasks, which write a train and a val shard each."""
    (tmp_path / "train.csv").write_text(table_with_ids(300))
    (tmp_path / "out").mkdir()
    with Workers(1) as workers:
        return make_plan({"train": [CsvFile(tmp_path / "train.csv", ReadOptions(block_bytes=1000))]}, RULES, workers)


def decode(path):
    return RULES.layout.decode(np.fromfile(path, np.uint8).reshape(-1, RULES.layout.stride))


def test_task_writes_its_rows_and_nothing_else(plan, tmp_path):
    rows = []
    result = run_task(plan.tasks[1], tmp_path / "out", on_rows=rows.append)
    names = [shard.name for shards in result.shards.values() for shard in shards]
    assert sorted(all_bytes(tmp_path / "out")) == sorted([*names, "task-00001.json"])
    images, labels, ids = map(np.concatenate, zip(*(decode(tmp_path / "out" / name) for name in names), strict=True))
    order = np.argsort(ids)
    k = np.arange(100, 200)
    assert ids[order].tolist() == (3 * k).tolist()
    assert labels[order].tolist() == (k % 3).tolist()
    assert images[order, 0].tolist() == k.tolist()
    assert result.ids == IdRange(300, 597, increasing=True)
    assert (sum(rows), len(rows) > 1) == (100, True)
    train = decode(tmp_path / "out" / names[0])[0]
    assert (result.stats.count, result.stats.sums) == (train.size, (train.sum(),))


@pytest.mark.parametrize(("count", "processes"), [(2, False), (2, True)])
def test_workers_write_the_same_bytes(plan, tmp_path, count, processes):
    (tmp_path / "other").mkdir()
    with Workers(1) as serial, Workers(count, processes) as workers:
        expected = list(run_tasks(plan.tasks, tmp_path / "out", serial))
        assert list(run_tasks(plan.tasks, tmp_path / "other", workers)) == expected
    assert all_bytes(tmp_path / "other") == all_bytes(tmp_path / "out")


def test_finished_task_is_recognised(plan, tmp_path):
    result = run_task(plan.tasks[0], tmp_path / "out")
    assert load_result(plan.tasks[0], tmp_path / "out") == result
    assert load_result(plan.tasks[1], tmp_path / "out") is None
    shutil.copy(result_path(0, tmp_path / "out"), result_path(1, tmp_path / "out"))
    assert load_result(plan.tasks[1], tmp_path / "out") is None


SHARD, RESULT = "data-val.tfrecord-00000-of-00003", "task-00000.json"
DAMAGE = {
    "flipped bit": (SHARD, lambda path: faults.flip_bit(path, 500)),
    "truncated shard": (SHARD, lambda path: faults.cut(path, -1)),
    "longer shard": (SHARD, lambda path: path.write_bytes(path.read_bytes() + b"x")),
    "missing shard": (SHARD, faults.drop),
    "directory for a shard": (SHARD, lambda path: (path.unlink(), path.mkdir())),
    "truncated result": (RESULT, lambda path: faults.cut(path, 100)),
    "empty result": (RESULT, lambda path: faults.cut(path, 0)),
    "missing result": (RESULT, faults.drop),
    "directory for a result": (RESULT, lambda path: (path.unlink(), path.mkdir())),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_leftover_is_not_used(plan, tmp_path, damage):
    run_task(plan.tasks[0], tmp_path / "out")
    name, spoil = DAMAGE[damage]
    spoil(tmp_path / "out" / name)
    assert load_result(plan.tasks[0], tmp_path / "out") is None


def test_result_with_a_flipped_bit_is_not_used(plan, tmp_path):
    run_task(plan.tasks[0], tmp_path / "out")
    path = result_path(0, tmp_path / "out")
    for byte in range(path.stat().st_size):
        faults.flip_bit(path, byte, byte % 8)
        assert load_result(plan.tasks[0], tmp_path / "out") is None
        faults.flip_bit(path, byte, byte % 8)


@pytest.mark.parametrize("change", ["append", "truncate", "new label", "replace", "remove"])
@pytest.mark.parametrize("index", [0, 2])
def test_source_that_changed_after_the_plan_is_refused(plan, tmp_path, change, index):
    path = tmp_path / "train.csv"
    text = path.read_text()
    if change == "append":
        path.write_text(text + "9999,1,1,1,1,1\n" * 50)
    elif change == "truncate":
        path.write_text(text[:-40])
    elif change == "new label":
        path.write_text(text.replace(",2,", ",5,"))
    else:
        path.rename(tmp_path / "old.csv")
        if change == "replace":
            path.write_text(text)
            os.utime(path, ns=((tmp_path / "old.csv").stat().st_mtime_ns,) * 2)
    with pytest.raises(InputError, match="(?i)train.csv: (the file changed while it was read|no such file)"):
        run_task(plan.tasks[index], tmp_path / "out")
    assert not result_path(index, tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("first", "second", "increasing"),
    [
        (IdRange(0, 9, True), IdRange(10, 19, True), True),
        (IdRange(0, 9, True), IdRange(9, 19, True), False),
        (IdRange(0, 9, True), IdRange(10, 19, False), False),
        (IdRange(0, 2**63 - 1, True), IdRange(-(2**63), 0, True), False),  # whose difference wraps to 1
    ],
)
def test_ranges_of_ids_join_in_order(first, second, increasing):
    assert first + second == IdRange(first.first, second.last, increasing)
