"""Interrupted conversions, which the same call resumes; in this process (test_conversion_kills.py kills real ones)."""

import gzip

import pytest

from pipeline.convert import converter
from pipeline.errors import InputError
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, convert_texts, left_over, make_config, table, table_with_ids

CASES = {
    "two splits": ({"train": table(400), "test": table(300, "id", lambda k: k + 9)}, {}),
    "validation": ({"train": [table(300), table(300)], "test": table(50)}, {"val_fraction": 0.1, "seed": 3}),
    "validation in groups": ({"train": [table(301), table(300)]}, {"val_fraction": 0.3, "val_group_size": 50}),
    "labels with a gap": ({"train": table(500, value=lambda k: k % 3 * 4 + 1)}, {"val_fraction": 0.2}),
    "ids": ({"train": table_with_ids(500)}, {"val_fraction": 0.1}),
    "gzip": ({"train": [gzip.compress(table(rows).encode()) for rows in (500, 300, 2)]}, {}),
    "odd text": ({"train": "\ufeff\n" + table(500).replace("\n", "\r\n\r\n").rstrip()}, {}),
}
SMALL = {"shards": 4, "block_bytes": 300}


def convert_until(folder, texts, stop, error=SystemExit, **options):
    """Convert until `stop` reports of progress, as a process that is terminated then does; True if it was."""
    calls = []

    def on_progress(*_):
        calls.append(1)
        if len(calls) == stop:
            raise error

    try:
        convert_texts(folder, texts, on_progress=on_progress, **{**SMALL, **options})
    except error:
        return True
    return False


@pytest.mark.parametrize("case", CASES)
def test_interrupted_conversion_ends_with_the_same_bytes(tmp_path, case):
    texts, options = CASES[case]
    convert_texts(tmp_path, texts, "expected/data", **SMALL, **options)
    resumed = 0
    for stop in range(1, 200, 5):
        if not convert_until(tmp_path, texts, stop, **options):
            break
        convert_until(tmp_path, texts, 2, **options)  # a second time, soon after resuming
        notices = []
        convert_texts(tmp_path, texts, on_notice=notices.append, overwrite=True, **SMALL, **options)
        resumed += any("resuming an interrupted conversion" in notice for notice in notices)
        assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "expected" / "data"), stop
        assert left_over(tmp_path) == ["data", "expected"]
        (tmp_path / "data").rename(tmp_path / "expected" / f"done{stop}")
    assert resumed


def interrupt(folder, texts, **options):
    """Convert until two of four tasks are finished; returns `versions` of what they left."""

    def on_progress(*_):
        if len(list(folder.glob(".data.partial/task-*.json"))) == 2:
            raise SystemExit

    with pytest.raises(SystemExit):
        convert_texts(folder, texts, on_progress=on_progress, **SMALL, **options)
    return versions(folder / ".data.partial")


def versions(directory):
    """File name -> what changes if the file is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()}


@pytest.mark.parametrize("processes", [False, True])
def test_finished_tasks_are_not_run_again(tmp_path, monkeypatch, processes):
    before = interrupt(tmp_path, {"train": table(400)})
    monkeypatch.setattr(converter, "_SMALL_BYTES", 0 if processes else 1 << 20)
    progress, notices = [], []
    report = {"on_progress": lambda *counts: progress.append(counts), "on_notice": notices.append}
    convert_texts_again(tmp_path, workers=2, **report)
    assert notices == [f"resuming an interrupted conversion of {tmp_path}/data: 2 of 4 tasks done"]
    kept = dict(before.items() & versions(tmp_path / "data").items())
    assert sorted(kept) == [f"data-train.tfrecord-{k:05d}-of-00004" for k in range(2)]
    assert progress[0][0] > 200
    assert progress[-1] == (400, 400)


def convert_texts_again(folder, on_progress=None, on_notice=None, **options):
    """Convert the CSVs that lie in a folder, unchanged."""
    splits = tuple((path.stem.rstrip("0123456789"), path) for path in sorted(folder.glob("*.csv")))
    config = make_config(splits, folder / "data", **{**SMALL, **options})
    return converter.convert(config, on_progress, on_notice)


# What happens to a leftover of two tasks, and how many are kept then; tests/test_task.py has more.
LEFTOVERS = {
    "flipped bit in a shard": ("*-00001-of-*", lambda path: faults.flip_bit(path, 500), 1),
    "corrupt result": ("task-00000.json", lambda path: faults.flip_bit(path, -20), 1),
    "changed source": ("train0.csv", lambda path: path.write_text(path.read_text().replace(",7,", ",8,", 1)), 0),
    "foreign files": (".data.partial", lambda path: ((path / "x").mkdir(), (path / "x" / "y").touch()), 2),
}


@pytest.mark.parametrize("damage", LEFTOVERS)
def test_damaged_leftover_is_written_again(tmp_path, damage):
    pattern, spoil, num_kept = LEFTOVERS[damage]
    interrupt(tmp_path, {"train": table(400)})
    for path in list(tmp_path.rglob(pattern)):
        spoil(path)
    notices = []
    convert_texts_again(tmp_path, on_notice=notices.append)
    done = f"resuming an interrupted conversion of {tmp_path}/data: {num_kept} of 4 tasks done"
    assert notices == [done if num_kept else f"restarting {tmp_path}/data"]
    resumed = all_bytes(tmp_path / "data")
    convert_texts_again(tmp_path, overwrite=True)
    assert all_bytes(tmp_path / "data") == resumed


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", 1), ("shards", 3), ("val_fraction", 0.2), ("image_shape", (4, 1, 1))],
)
def test_other_options_restart_the_conversion(tmp_path, option, value):
    options = {"val_fraction": 0.1}
    interrupt(tmp_path, {"train": table(400, value=lambda k: k)}, **options)
    options[option] = value
    notices = []
    convert_texts_again(tmp_path, on_notice=notices.append, **options)
    assert notices == [f"restarting {tmp_path}/data"]
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_error_or_ctrl_c_leaves_nothing(tmp_path, error):
    assert convert_until(tmp_path, {"train": table(400)}, 20, error=error)
    assert left_over(tmp_path) == []
