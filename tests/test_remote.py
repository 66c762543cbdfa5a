"""Paths in object stores, by fsspec's file system in memory: reading, writing, and errors as one line."""

import argparse
import asyncio
import errno
import pathlib
import subprocess
import sys

import botocore.session
import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from pipeline import mirror as mirror_module
from pipeline.cli import any_path, local_path
from pipeline.convert.converter import convert
from pipeline.convert.csv.reader import CsvFile
from pipeline.data_audit.audit import audit
from pipeline.data_audit.drop import write_without_duplicates
from pipeline.errors import InputError, TryAgainError
from pipeline.feed.resident import load_split
from pipeline.files import write_text
from pipeline.format.local_copy import copy_to_cache
from pipeline.format.manifest import load_manifest
from pipeline.format.verify import inspect
from pipeline.mirror import Mirror, as_given, local_copy
from pipeline.remote import as_path, explained, file_bytes, file_size, fingerprint, is_remote, read_range
from pipeline.train.config import TrainConfig
from tests.helpers.conversion import make_config, read_split, table, write_sources


@pytest.fixture
def store():
    """An empty folder in memory."""
    folder = as_path("memory://bucket/folder")
    yield folder
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def test_local_paths_stay_paths_of_the_system():
    for text in ("data/mnist", "/data/c:/x", "c://x"):
        assert as_path(text) == pathlib.Path(text)
        assert not is_remote(text)
    assert is_remote("s3://bucket/x")
    assert is_remote(as_path("memory://bucket/x"))


@pytest.mark.parametrize("place", ["local", "store"])
def test_ranges_of_a_file(place, store, tmp_path):
    path = (tmp_path if place == "local" else store) / "file"
    path.write_bytes(bytes(range(100)))
    assert read_range(path, 10, 5).tolist() == [10, 11, 12, 13, 14]
    assert read_range(path, 98, 5).tolist() == [98, 99]
    assert file_bytes(path).tolist() == list(range(100))
    assert file_size(path) == 100
    assert file_size(path.with_name("other")) is None


def test_a_replaced_file_has_another_fingerprint(store):
    path = store / "file"
    path.write_bytes(b"one")
    before = fingerprint(path)
    assert before[1] == 3
    path.write_bytes(b"two")
    assert fingerprint(path) != before


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (FileNotFoundError("folder"), InputError, "no such file; check bucket and name"),
        (PermissionError("AccessDenied"), InputError, "access denied; check the credentials"),
        (OSError(5, "SlowDown"), TryAgainError, "SlowDown; run the command again"),
        (TimeoutError(), TryAgainError, "TimeoutError; run the command again"),
        (EndpointConnectionError(endpoint_url="x"), TryAgainError, "check the address, and run the command again"),
        (NoCredentialsError(), InputError, "check the address and the credentials"),
        (asyncio.TimeoutError(), TryAgainError, "TimeoutError; .*run the command again"),
    ],
)
def test_errors_of_a_store_are_one_line(error, kind, text):
    with (
        pytest.raises(kind, match=f"^s3://bucket/x: .*{text}" if text else "No space left"),
        explained("s3://bucket/x"),
    ):
        raise error


def test_errors_that_are_not_the_stores_stay_as_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), explained("s3://bucket/x"):
        _ = 1 // 0
    with pytest.raises(OSError, match="No space left"), explained("s3://bucket/x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), explained("s3://bucket/x"):
        (tmp_path / "missing").read_bytes()


def test_a_client_that_refuses_an_address_is_explained():
    with pytest.raises(InputError, match="^s3://bucket/x: .*junk.*; check the address"), explained("s3://bucket/x"):
        botocore.session.get_session().create_client("s3", "us-east-1", endpoint_url="junk")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nfs://server/x", "nfs:// is not known; use s3://, gs:// or a local path"),
        ("S3://bucket/x", "not a URL; give it as text that begins with s3://"),
        (pathlib.Path("s3://bucket/x"), "not a URL; give it as text that begins with s3://"),
        ("file:///tmp/x", "give a local path without file://"),
    ],
)
def test_other_addresses_are_refused(path, text):
    with pytest.raises(InputError, match=text):
        as_path(path)
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        any_path(str(path))


def test_an_option_for_local_files_refuses_urls():
    with pytest.raises(argparse.ArgumentTypeError, match="s3://bucket/x: only a local path"):
        local_path("s3://bucket/x")


def test_a_file_is_stored_when_it_is_complete(store):
    write_text(store / "note.txt", "text")
    assert (store / "note.txt").read_bytes() == b"text"


def test_a_conversion_from_and_to_a_store_writes_the_same_bytes(store, tmp_path):
    local = write_sources(tmp_path, {"train": table(300), "test": table(40)})
    remote = tuple((name, str(store / path.name)) for name, path in local)
    for _, path in local:
        (store / path.name).write_bytes(path.read_bytes())
    convert(make_config(local, tmp_path / "data", val_fraction=0.2, shards=3))
    convert(make_config(remote, str(store / "data"), val_fraction=0.2, shards=3))
    files = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert {path.name: path.read_bytes() for path in (store / "data").iterdir()} == files


def test_compressed_tables_and_parts_of_archives_are_read(store, tmp_path):
    np.savez_compressed(
        tmp_path / "x.npz", x_train=np.arange(40, dtype=np.uint8).reshape(10, 2, 2), y_train=np.arange(10) % 2
    )
    (store / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes())
    convert(make_config([("train", str(store / "x.npz:x_train"))], str(store / "arrays")))
    images, labels, _ = read_split(store / "arrays", "train")
    assert images.reshape(-1).tolist() == list(range(40))
    assert labels.tolist() == [0, 1] * 5


def test_rows_are_found_from_any_byte(store, monkeypatch):
    monkeypatch.setattr("pipeline.convert.csv.reader.SCAN_BYTES", 100)
    (store / "a.csv").write_bytes(table(50).encode())
    file = CsvFile(store / "a.csv")
    starts = file.scan_starts()
    text = table(50).encode()
    assert len(starts) > 5
    assert all(text[start - 1 : start] == b"\n" for start in starts)
    scans = [file.scan(*part) for part in zip(starts, [*starts[1:], None], strict=True)]
    assert np.concatenate([scan.labels for scan in scans]).tolist() == [k % 3 for k in range(50)]


@pytest.mark.parametrize(
    ("names", "overwrite", "text"),
    [
        (["mine.txt"], False, "not empty, it has mine.txt; choose another --out$"),
        (["mine.txt"], True, "not empty, it has mine.txt; choose another --out$"),
        (["manifest.json"], False, "not empty, it has manifest.json; choose another --out, or use --overwrite"),
        (["manifest.json"], True, "its manifest.json cannot be read, so it may not be a data set; move it away"),
    ],
)
def test_what_is_stored_there_is_not_touched(store, tmp_path, names, overwrite, text):
    for name in names:
        (store / "data" / name).write_bytes(b"{}")
    splits = write_sources(tmp_path, {"train": table(20)})
    with pytest.raises(InputError, match=text):
        convert(make_config(splits, str(store / "data"), overwrite=overwrite))
    assert [path.name for path in (store / "data").iterdir()] == names


def test_an_invalid_row_leaves_nothing(store, tmp_path):
    splits = write_sources(tmp_path, {"train": table(20) + "1,2,3,4,999\n"})
    with pytest.raises(InputError, match="999"):
        convert(make_config(splits, str(store / "data")))
    assert list((store / "data").rglob("*")) == []


def test_a_stopped_conversion_is_no_data_set_and_is_resumed(store, tmp_path):
    splits = write_sources(tmp_path, {"train": table(60)})
    convert(make_config(splits, tmp_path / "data", shards=3))

    def stop(done, _):
        if done >= 40:
            raise SystemExit(143)

    config = make_config(splits, str(store / "data"), shards=3)
    with pytest.raises(SystemExit):
        convert(config, stop)
    with pytest.raises(InputError, match=r"no manifest.json, so not a data set; .* writes this file last"):
        load_manifest(str(store / "data"))
    lines = []
    convert(config, on_notice=lines.append)
    assert any("resuming an interrupted conversion" in line and "1 of 3 tasks done" in line for line in lines)
    names = sorted(path.name for path in (store / "data").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "data").iterdir())


def test_an_old_data_set_stays_until_its_successor_is_read(store, tmp_path):
    splits = write_sources(tmp_path, {"train": table(60)})
    convert(make_config(splits, str(store / "data"), shards=3))
    old = {path.name: path.read_bytes() for path in (store / "data").iterdir()}
    few = write_sources(tmp_path, {"train": table(3)})
    with pytest.raises(InputError, match="no row is left"):
        convert(make_config(few, str(store / "data"), overwrite=True, val_fraction=0.1))
    assert {path.name: path.read_bytes() for path in (store / "data").iterdir()} == old
    lines = []
    convert(
        make_config(few, str(store / "data"), overwrite=True),
        on_notice=lines.append,
    )
    assert sorted(path.name for path in (store / "data").iterdir())[-1] == "manifest.json"
    assert load_manifest(str(store / "data")).split("train").num_examples == 3
    assert not any("restarting" in line for line in lines)


def test_a_conversion_that_another_one_replaces_removes_nothing(store, tmp_path):
    config = make_config(write_sources(tmp_path, {"train": table(60)}), str(store / "data"), shards=3)

    def begin_another(done, _):
        if done == 60:
            convert(config)

    with pytest.raises(InputError, match="another conversion"):
        convert(config, begin_another)
    assert [problem for problem in inspect(str(store / "data"), load_manifest(str(store / "data"))).lines()] == []


def test_a_source_that_is_replaced_meanwhile_is_refused(store):
    (store / "train.csv").write_bytes(table(60).encode())
    config = make_config([("train", str(store / "train.csv"))], str(store / "data"), shards=3)

    def replace(*_):
        (store / "train.csv").write_bytes(table(60).replace("1", "2").encode())

    with pytest.raises(InputError, match="train.csv: the file changed while it was read"):
        convert(config, replace)
    assert not list((store / "data").rglob("*"))


def test_a_truncated_shard_is_to_be_repaired_locally(store, tmp_path):
    convert(make_config(write_sources(tmp_path, {"train": table(60)}), str(store / "data")))
    manifest = load_manifest(str(store / "data"))
    shard = store / "data" / manifest.all_shards[0].name
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match="expected .*; repair a local copy with: python .* repair data --from"):
        load_split(store / "data", manifest, "train")


def test_a_cache_is_filled_once_with_what_was_written(store, tmp_path):
    convert(make_config(write_sources(tmp_path, {"train": table(60)}), str(store / "data"), shards=3))
    manifest = load_manifest(str(store / "data"))
    copy = copy_to_cache(str(store / "data"), manifest, tmp_path / "cache")
    expected = {path.name: path.read_bytes() for path in (store / "data").iterdir()}
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == expected
    assert as_given(copy / "x") == f"{store}/data/x"
    for path in (store / "data").iterdir():
        path.unlink()
    assert copy_to_cache(str(store / "data"), manifest, tmp_path / "cache") == copy


def test_a_changed_shard_is_not_cached(store, tmp_path):
    convert(make_config(write_sources(tmp_path, {"train": table(60)}), str(store / "data")))
    manifest = load_manifest(str(store / "data"))
    shard = store / "data" / manifest.all_shards[0].name
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=rf"{shard.name}: changed since it was written; see: .* verify memory://"):
        copy_to_cache(str(store / "data"), manifest, tmp_path / "cache")


def test_a_mirror_stores_what_changes_and_another_takes_it(store):
    here, there = Mirror(store / "run"), Mirror(store / "run")
    (here.path / "folder").mkdir()
    for name in ("config.json", "a", "folder/b", ".lock", "folder/.a.partial"):
        (here.path / name).write_text(name)
    here.push()
    there.pull()
    names = sorted(str(path.relative_to(there.path)) for path in there.path.rglob("*") if path.is_file())
    assert names == ["a", "config.json", "folder/b"]
    assert as_given(there.path / "folder/b") == f"{store}/run/folder/b"
    (here.path / "a").unlink()
    (here.path / "folder/b").write_text("changed")
    here.push()
    there.pull()
    assert not (there.path / "a").exists()
    assert (there.path / "folder/b").read_text() == "changed"
    assert [path.name for path in local_copy(store / "run", ["folder"]).iterdir()] == ["config.json"]


def test_results_are_stored_after_the_model(store, monkeypatch):
    mirror, stored = Mirror(store / "run"), []
    monkeypatch.setattr(Mirror, "_upload", lambda _, name: stored.append(name))
    for name in ("config.json", "evaluation.json", "model.keras", "report.html"):
        (mirror.path / name).write_text(name)
    mirror.push()
    assert len(stored) == 4
    assert stored[-1] == "evaluation.json"


def test_a_file_removed_while_others_are_stored_is_left_out(store, monkeypatch):
    mirror, upload = Mirror(store / "removing"), mirror_module.upload
    for name in ("kept", "removed"):
        (mirror.path / name).write_text(name)

    def remove_then_upload(source, path):
        (mirror.path / "removed").unlink(missing_ok=True)
        upload(source, path)

    monkeypatch.setattr(mirror_module, "upload", remove_then_upload)
    mirror.push()
    assert [path.name for path in (store / "removing").iterdir()] == ["kept"]


def test_what_could_not_be_stored_is_stored_by_the_next_push(store, monkeypatch, capsys):
    mirror = Mirror(store / "run")
    (mirror.path / "config.json").write_text("a")
    with monkeypatch.context() as broken:
        broken.setattr("pipeline.mirror.upload", lambda *_: (_ for _ in ()).throw(TryAgainError("no answer")))
        mirror.try_push()
    assert "warning: not stored yet: no answer" in capsys.readouterr().err
    mirror.pull()
    mirror.push()
    assert (store / "run/config.json").read_bytes() == b"a"


def test_what_cannot_be_stored_at_the_end_is_kept(store, tmp_path):
    code = f"""
import tempfile, pipeline.mirror
from pipeline.errors import TryAgainError
from pipeline.remote import as_path
def refuse(*_):
    raise TryAgainError("no answer")
tempfile.tempdir = {str(tmp_path)!r}
done, lost = (pipeline.mirror.Mirror(as_path("memory://b/" + name)) for name in ("done", "lost"))
done.finish()
pipeline.mirror.upload = refuse
(lost.path / "config.json").write_text("a")
try:
    lost.finish()
except TryAgainError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    (kept,) = tmp_path.glob("kannada-*/*")
    assert out == f"no answer; {kept} has what is not stored: copy it to memory://b/lost first\n"
    assert (kept / "config.json").read_text() == "a"


def test_a_copy_of_nothing_is_refused(store):
    with pytest.raises(InputError, match="nothing is stored there"):
        local_copy(store / "nowhere")


@pytest.mark.parametrize("name", ["train.csv", "deep/down/config.json"])
def test_what_is_not_a_run_is_refused_before_it_is_downloaded(store, name, monkeypatch):
    (store / "csv" / name).write_bytes(b"1")
    monkeypatch.setattr(Mirror, "_download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(InputError, match="memory://bucket/folder/csv: not a run directory, it has no config.json"):
        local_copy(store / "csv")


def test_a_bucket_itself_is_not_a_run_directory():
    with pytest.raises(InputError, match="the bucket itself; name a directory in it"):
        Mirror(as_path("memory://"))


def test_a_stored_run_is_not_set_aside():
    with pytest.raises(InputError, match="--fresh cannot rename memory://b/run, .*; choose another --run-dir"):
        TrainConfig(data=pathlib.Path("data"), run_dir=as_path("memory://b/run"), fresh=True)


def test_a_slash_at_the_end_changes_nothing(store, tmp_path):
    splits = write_sources(tmp_path, {"train": table(20)})
    assert convert(make_config(splits, as_path(f"{store}/data/"))).name == "data"


def test_duplicates_are_dropped_from_a_store_to_a_store(store, tmp_path):
    rows = table(20) + "0,0,0,7,255\n"
    convert(make_config(write_sources(tmp_path, {"train": rows}), store / "data"))
    found = audit(store / "data", load_manifest(store / "data"))
    assert write_without_duplicates(found, store / "clean") == 1
    assert load_manifest(store / "clean").split("train").num_examples == 20
