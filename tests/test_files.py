import errno
import os

import pytest

from pipeline import files
from pipeline.errors import InputError
from tests.helpers import faults


def write_directory(path, text):
    with files.replacing(path) as temporary:
        temporary.mkdir()
        (temporary / text).write_text(text)


def test_a_body_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text_atomically(path, "old\n")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_with_files_is_replaced(tmp_path):
    path = tmp_path / "model"
    for text in ("old", "new"):
        write_directory(path, text)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_fit_is_one_line_with_the_bytes(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes_atomically(path, b"old")
    told = r"a.bin: File too large; it takes 10,000 bytes and [0-9,]+ are free there"
    with faults.small_files(8192), pytest.raises(InputError, match=told):
        files.write_bytes_atomically(path, bytes(10000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_of_unknown_size_says_how_far_it_came(tmp_path):
    path, told = tmp_path / "a.txt", "it takes more than 8,192 bytes"
    with faults.small_files(8192), pytest.raises(InputError, match=told), files.replacing(path) as temporary:
        temporary.write_bytes(bytes(10000))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_library_that_passes_on_the_words_alone_is_understood(tmp_path, code):
    with pytest.raises(InputError, match=f"m.keras: {os.strerror(code)}"), files.replacing(tmp_path / "m.keras"):
        raise RuntimeError(f"unable to write: {os.strerror(code)} (file offset 96)")


def test_an_error_of_the_system_names_the_file(tmp_path):
    with pytest.raises(OSError, match="Input/output error") as caught, files.replacing(tmp_path / "a.npz"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert caught.value.filename == str(tmp_path / "a.npz")


def test_what_is_written_is_flushed_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    synced, path = [], tmp_path / "model"
    flush = os.fsync

    def record(handle):
        synced.append((os.fstat(handle).st_ino, path.exists()))
        flush(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_directory(path, "weights")
    inner, whole, parent = (entry.stat().st_ino for entry in (path / "weights", path, tmp_path))
    assert synced == [(inner, False), (whole, False), (parent, True)]


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path):
    ours = (".best.partial-0123abcd.npz", ".saved_model.partial-89abcdef", ".saved_model.partial-89abcdef.replaced")
    others = ("saved_model", ".lock", ".notes.txt", ".notes.partial-copy.txt", "a.partial-0123abcd.npz")
    for name in (*ours, *others):
        (tmp_path / name).touch()
    files.remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_a_directory_that_was_moved_away_for_another_that_did_not_come_is_put_back(tmp_path):
    old, new = tmp_path / ".saved_model.partial-0123abcd.replaced", tmp_path / ".saved_model.partial-0123abcd"
    for path in (old, new):
        path.mkdir()
    (old / "old").touch()
    files.remove_stale(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["saved_model", "saved_model/old"]


def test_a_lock_excludes_and_follows_its_file(tmp_path):
    path = tmp_path / "lock"
    first = files.lock_file(path)
    with pytest.raises(BlockingIOError):
        files.lock_file(path)
    path.rename(tmp_path / "moved")
    second = files.lock_file(path)
    os.close(first)
    with pytest.raises(BlockingIOError):
        files.lock_file(path)
    os.close(second)
    os.close(files.lock_file(path))
