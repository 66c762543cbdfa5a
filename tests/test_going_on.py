"""A conversion that was cut short and given again ends with the bytes of one that was not."""

import errno
import gzip
import shutil

import pytest

from pipeline.convert import converter
from pipeline.convert.converter import ConvertConfig, convert
from pipeline.errors import InputError
from tests.helpers import faults
from tests.helpers.conversion import all_bytes, left_over, table

PARTIAL = ".data.csv_to_tfrecord-partial"
BLOCKS = {"shards": 2, "block_bytes": 3000, "journal_bytes": 1}  # a journal is due after each 20,000 bytes


def go(folder, texts, stop=None, error=SystemExit, out="data", **options):
    """Convert as a killed process would after `stop` blocks; the notices, or None where it was cut short."""
    splits = []
    for name, given in texts.items():
        for k, data in enumerate([given] if isinstance(given, (str, bytes)) else given):
            path = folder / f"{name}{k}.csv"
            if not path.exists():
                path.write_bytes(data.encode() if isinstance(data, str) else data)
            splits.append((name, path))
    notices, blocks = [], []

    def on_progress(progress):
        blocks.append(progress.num_rows)
        if len(blocks) == stop:
            raise error

    config = ConvertConfig(splits=tuple(splits), out=folder / out, **{**BLOCKS, **options})
    try:
        convert(config, on_progress, notices.append)
    except error:
        return None
    return notices


def with_ids(rows, first=0):
    lines = [f"{first + 3 * k},{k % 3},{k % 256},{k // 256},7,{255 - k % 256}" for k in range(rows)]
    return "\n".join(["id,label,p0,p1,p2,p3", *lines]) + "\n"


CASES = {
    "two splits": ({"train": table(4000), "test": table(3000, "id", lambda k: k + 9)}, {}),
    "validation": ({"train": [table(3000), table(3000)], "test": table(500)}, {"val_fraction": 0.1, "seed": 3}),
    "validation in groups": ({"train": [table(3010), table(3000)]}, {"val_fraction": 0.3, "val_group_size": 50}),
    "labels with a gap": ({"train": table(5000, value=lambda k: k % 3 * 4 + 1)}, {"val_fraction": 0.2}),
    "ids": ({"train": with_ids(5000)}, {"val_fraction": 0.1}),
    "gzip": ({"train": gzip.compress(table(5000).encode()), "test": gzip.compress(table(3000).encode())}, {}),
    "odd text": ({"train": "\ufeff\n" + table(5000).replace("\n", "\r\n\r\n").rstrip()}, {}),
    "more shards than rows": ({"train": table(3), "test": table(9000)}, {"shards": 5}),
}


@pytest.mark.parametrize("case", CASES)
def test_wherever_it_is_cut_short_it_ends_with_the_same_bytes(tmp_path, case):
    texts, options = CASES[case]
    assert go(tmp_path, texts, out="whole/data", **options) == []
    went_on = 0
    for stop in range(1, 200, 7):
        cut = go(tmp_path, texts, stop, **options)
        if cut is not None:
            break
        go(tmp_path, texts, 5, **options)  # a second time, soon after going on
        notices = go(tmp_path, texts, **options) if not (tmp_path / "data").exists() else []
        went_on += "going on after" in " ".join(notices)
        assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "whole" / "data"), stop
        assert (tmp_path / PARTIAL).exists() is False
        shutil.rmtree(tmp_path / "data")
    assert went_on


def test_it_does_not_read_again_what_is_journaled(tmp_path):
    texts = {"train": table(6000)}
    go(tmp_path, texts, 20)
    (notice,) = go(tmp_path, texts)
    rows = int(notice.rsplit("after ")[-1].split()[0].replace(",", ""))
    assert rows > 1000
    assert notice == f"a conversion into {tmp_path}/data was killed; going on after {rows:,} rows"


DAMAGE = {
    "a changed source": ("train0.csv", lambda path: _flip_pixel(path), "train0.csv is not the file that it read"),
    "a longer source": ("train0.csv", lambda path: _append(path), "it differs in files"),
    "a flipped bit in a shard": (
        "train-00001.part",
        lambda path: faults.flip_bit(path, 500),
        "is not as it was written",
    ),
    "a short shard": ("train-00000.part", lambda path: faults.cut(path, 84), "is missing or too short"),
    "no shard": ("train-00000.part", faults.drop, "train-00000.part is missing or too short"),
    "a damaged journal": ("journal.json", lambda path: faults.flip_bit(path, -90), "its journal is damaged"),
    "an empty journal": ("journal.json", lambda path: faults.cut(path, 0), "its journal is damaged"),
    "a journal that cannot be read": ("journal.json", lambda path: _make_directory(path), "its journal cannot be read"),
    "no journal": ("journal.json", faults.drop, "it had not come far enough"),
}


def _make_directory(path):
    path.unlink()
    path.mkdir()


def _flip_pixel(path):
    text = path.read_text()
    path.write_text(text.replace(",7,", ",8,", 1))


@pytest.mark.parametrize("case", DAMAGE)
def test_what_does_not_fit_is_begun_anew_and_said(tmp_path, case):
    name, spoil, reason = DAMAGE[case]
    texts = {"train": table(6000)}
    go(tmp_path, texts, 20)
    spoil(next(tmp_path.rglob(name)))
    (notice,) = go(tmp_path, texts)
    assert "was killed; starting anew, because" in notice
    assert reason in notice
    assert go(tmp_path, texts, out="whole/data") == []
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "whole" / "data")


@pytest.mark.parametrize(
    ("option", "value"), [("seed", 1), ("shards", 3), ("val_fraction", 0.2), ("id_column", "none")]
)
def test_other_options_begin_anew(tmp_path, option, value):
    texts, before = {"train": table(6000)}, {"val_fraction": 0.1}
    go(tmp_path, texts, 20, **before)
    (notice,) = go(tmp_path, texts, **{**before, option: value})
    assert notice.endswith(f"starting anew, because it differs in {option}")
    assert left_over(tmp_path) == ["data"]


@pytest.mark.parametrize("where", ["publish", "metadata"])
def test_cut_short_while_the_shards_get_their_names(tmp_path, monkeypatch, where):
    texts = {"train": table(6000), "test": table(100)}
    with monkeypatch.context() as patch:
        if where == "metadata":
            patch.setattr(converter, "write_file", _stop)
        else:
            patch.setattr("pipeline.convert.part.Part.publish", _publish_one)
        with pytest.raises(SystemExit):
            go(tmp_path, texts, error=KeyboardInterrupt)
    (notice,) = go(tmp_path, texts)
    assert "going on after 6,100 rows" in notice
    go(tmp_path, texts, out="whole/data")
    assert all_bytes(tmp_path / "data") == all_bytes(tmp_path / "whole" / "data")


def _stop(*_):
    raise SystemExit


def _publish_one(part, split):
    part.paths[0].rename(part.paths[0].with_name(split.shards[0].name))
    raise SystemExit


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_an_error_or_ctrl_c_leaves_nothing(tmp_path, error):
    assert go(tmp_path, {"train": table(6000)}, 20, error=error) is None
    assert left_over(tmp_path) == []


def test_a_duplicate_id_is_found_across_the_cut_and_named_the_same(tmp_path):
    texts = {"train": [with_ids(3000), with_ids(3000, first=20_000) + "300,1,2,3,4,5\n"]}
    with pytest.raises(InputError) as whole:
        go(tmp_path, texts, val_fraction=0.1)
    assert "train1.csv, line 3002" in str(whole.value)
    go(tmp_path, texts, 30, val_fraction=0.1)
    with pytest.raises(InputError) as resumed:
        go(tmp_path, texts, val_fraction=0.1)
    assert str(resumed.value) == str(whole.value)
    assert left_over(tmp_path) == []


def _append(path):
    with path.open("a") as file:
        file.write("1,1,1,1,1\n")


def _replace_by_another(path):
    path.with_suffix(".new").write_text(table(6000))
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [_append, _replace_by_another, faults.drop])
def test_a_source_that_changes_while_it_is_read_is_one_line_and_nothing_is_written(tmp_path, change):
    path, calls = tmp_path / "train0.csv", []
    path.write_text(table(6000))

    def on_progress(_):
        calls.append(1)
        if len(calls) == 3:
            change(path)

    config = ConvertConfig(splits=(("train", path),), out=tmp_path / "data", **BLOCKS)
    with pytest.raises(
        InputError, match="train0.csv: (the file changed while it was read; convert again|no such file)"
    ):
        convert(config, on_progress)
    assert left_over(tmp_path) == []


def test_a_source_that_a_second_pass_finds_changed_is_one_line(tmp_path):
    path, calls = tmp_path / "train0.csv", []
    path.write_text(table(6000, value=lambda k: k % 3 + 5))

    def on_progress(progress):
        calls.append(progress.num_rows)
        if progress.num_rows == 6000 and calls.count(6000) == 1:
            _flip_pixel(path)

    config = ConvertConfig(splits=(("train", path),), out=tmp_path / "data", **BLOCKS)
    with pytest.raises(InputError, match="changed while"):
        convert(config, on_progress)
    assert left_over(tmp_path) == []


def test_a_compressed_source_that_is_replaced_before_a_journal_pins_it_is_refused(tmp_path):
    path, calls = tmp_path / "train0.csv", []
    path.write_bytes(gzip.compress(table(6000).encode()))

    def on_progress(_):
        calls.append(1)
        if len(calls) == 2:
            path.with_suffix(".new").write_bytes(gzip.compress(table(6001).encode()))
            path.with_suffix(".new").rename(path)

    config = ConvertConfig(splits=(("train", path),), out=tmp_path / "data", **BLOCKS)
    with pytest.raises(InputError, match="the file changed while it was read"):
        convert(config, on_progress)
    assert len(calls) < 15  # long before its end


def test_a_journal_that_does_not_fit_on_the_disk_is_told_of_as_a_full_disk(tmp_path, monkeypatch):
    def full(path, _):
        raise InputError(f"{path}: full") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("pipeline.files.write_bytes", full)
    with pytest.raises(InputError, match="data: No space left on device, with .* written; about .* more are needed"):
        go(tmp_path, {"train": table(6000)}, error=SystemExit)
    assert left_over(tmp_path) == []
