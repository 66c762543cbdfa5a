import errno
import os
import subprocess
import sys

import pytest

from pipeline import files
from pipeline.errors import InputError
from tests.helpers import faults


def write_directory(path, text):
    with files.replacing(path) as temporary:
        temporary.mkdir()
        (temporary / text).write_text(text)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def make_directory(path, name):
    path.mkdir()
    (path / name).touch()
    return path


# Files


def test_failing_body_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old\n")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old\n"
    assert names_in(tmp_path) == ["a.txt"]


def test_temporary_keeps_the_name_by_which_writers_choose_a_format(tmp_path):
    with files.replacing(tmp_path / "a.b.npz") as temporary:
        assert temporary.name == "a.b.npz"
        temporary.touch()


def test_directory_with_files_is_replaced(tmp_path):
    for text in ("old", "new"):
        write_directory(tmp_path / "model", text)
    assert names_in(tmp_path / "model") == ["new"]
    assert names_in(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("create", "kind"),
    [
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: os.mkfifo(path), "a FIFO"),
        (lambda path: path.symlink_to("/dev/null"), "a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
    ],
    ids=["directory", "FIFO", "link to a device", "dangling link"],
)
def test_only_regular_files_are_replaced(tmp_path, create, kind):
    path = tmp_path / "out.json"
    create(path)
    before = path.lstat()
    with pytest.raises(InputError, match=f"out.json: {kind}, not a regular file; choose another path"):
        files.write_text(path, "{}")
    assert path.lstat() == before
    assert names_in(tmp_path) == ["out.json"]


def test_devices_are_not_replaced():
    before = os.lstat("/dev/null")
    with pytest.raises(InputError, match="/dev/null: a device, not a regular file"):
        files.write_bytes("/dev/null", b"x")
    assert os.lstat("/dev/null") == before


@pytest.mark.parametrize("appear", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
def test_what_appears_while_a_file_is_written_is_not_replaced(tmp_path, appear):
    with pytest.raises(InputError, match="not a regular file"), files.replacing(tmp_path / "a") as temporary:
        temporary.touch()
        appear(tmp_path / "a")
    assert not (tmp_path / "a").is_file()


def test_directory_does_not_replace_a_file(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InputError, match="model: a regular file that may not be replaced"):
        write_directory(tmp_path / "model", "new")
    assert (tmp_path / "model").read_text() == "mine"


def test_content_is_flushed_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    synced, path, flush = [], tmp_path / "model", os.fsync

    def record(handle):
        synced.append((os.fstat(handle).st_ino, path.exists()))
        flush(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_directory(path, "weights")
    inner, whole, parent = (entry.stat().st_ino for entry in (path / "weights", path, tmp_path))
    assert synced == [(inner, False), (whole, False), (parent, True)]


# Full disks and errors of the system


def test_full_disk_error_gives_the_bytes_needed(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    line = r"a.bin: File too large; it takes 10,000 bytes and [0-9,]+ are free there; make room"
    with faults.small_files(8192), pytest.raises(InputError, match=line):
        files.write_bytes(path, bytes(10000))
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin"]


def test_full_disk_error_of_a_writer_of_unknown_size_gives_the_bytes_written(tmp_path):
    path, line = tmp_path / "a.txt", "it takes more than 8,192 bytes"
    with faults.small_files(8192), pytest.raises(InputError, match=line), files.replacing(path) as temporary:
        temporary.write_bytes(bytes(10000))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_recognized_by_its_words(tmp_path, code):
    with pytest.raises(InputError, match=f"m.keras: {os.strerror(code)}"), files.replacing(tmp_path / "m.keras"):
        raise RuntimeError(f"unable to write: {os.strerror(code)} (file offset 96)")


@pytest.mark.parametrize("named", [False, True])
def test_error_of_the_system_names_the_final_file(tmp_path, named):
    with pytest.raises(OSError, match="Input/output error") as caught, files.replacing(tmp_path / "a.npz") as temporary:
        raise OSError(errno.EIO, os.strerror(errno.EIO), *([str(temporary)] if named else []))
    assert caught.value.filename == str(tmp_path / "a.npz")


def test_missing_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        files.write_text(tmp_path / "none" / "a.txt", "x")
    assert caught.value.filename == str(tmp_path / "none" / "a.txt")


# Publishing directories


def test_published_directory_does_not_replace_one_that_appeared(tmp_path):
    new, path = make_directory(tmp_path / "partial", "new"), make_directory(tmp_path / "data", "theirs")
    with pytest.raises(InputError, match="data: a directory that may not be replaced"):
        files.publish_directory(new, path)
    assert names_in(tmp_path / "data") == ["theirs"]
    assert names_in(tmp_path) == ["data", "partial"]


def test_directory_that_appears_at_the_last_moment_is_not_replaced(tmp_path, monkeypatch):
    new, path = make_directory(tmp_path / "partial", "new"), tmp_path / "data"
    monkeypatch.setattr(files, "_kind", lambda _: make_directory(path, "theirs") and None)
    with pytest.raises(InputError, match="data: created by another program meanwhile"):
        files.publish_directory(new, path)
    assert names_in(path) == ["theirs"]


def test_old_directory_is_checked_where_no_other_program_finds_it(tmp_path):
    new, path = make_directory(tmp_path / "partial", "new"), make_directory(tmp_path / "data", "old")
    checked = []

    def check(old):
        checked.append(names_in(old))
        assert not path.exists()

    files.publish_directory(new, path, check)
    assert checked == [["old"]]
    assert names_in(path) == ["new"]
    assert names_in(tmp_path) == ["data"]


def test_old_directory_that_fails_its_check_is_moved_back(tmp_path):
    new, path = make_directory(tmp_path / "partial", "new"), make_directory(tmp_path / "data", "mine")

    def refuse(old):
        raise InputError("mine is not of the data set")

    with pytest.raises(InputError, match="mine is not of the data set"):
        files.publish_directory(new, path, refuse)
    assert names_in(path) == ["mine"]
    assert names_in(tmp_path) == ["data", "partial"]


def test_old_directory_whose_name_was_taken_meanwhile_is_kept(tmp_path):
    new, path = make_directory(tmp_path / "partial", "new"), make_directory(tmp_path / "data", "mine")
    with pytest.raises(InputError, match=r"its earlier content is now .*data\.old-"):
        files.publish_directory(new, path, lambda _: make_directory(path, "theirs"))
    assert names_in(path) == ["theirs"]
    (kept,) = tmp_path.glob("data.old-*")
    assert names_in(kept) == ["mine"]


# Leftovers of killed processes


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path):
    faults.leave_stale_temporary(tmp_path / "best.npz")
    others = [".lock", ".notes.partial-0123abcd", "saved_model"]
    for name in others:
        make_directory(tmp_path / name, "mine")
    assert len(names_in(tmp_path)) == 4
    files.remove_stale(tmp_path)
    assert names_in(tmp_path) == others


def test_temporary_of_a_living_process_is_not_removed(tmp_path):
    code = (
        "import sys; from pipeline.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('whole')\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, cwd=faults.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        files.remove_stale(tmp_path)
        writer.stdin.close()
        assert writer.wait() == 0
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("death", "content"), [(1, "old"), (2, "old"), (3, "new")])
def test_directory_is_old_or_new_wherever_its_writer_was_killed(tmp_path, death, content):
    script = tmp_path / "write.py"
    script.write_text(
        "import sys; from pipeline.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.mkdir()\n"
        "    (temporary / 'new').touch()\n"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    make_directory(folder / "model", "old")
    # The renames: old aside, new into place; then the workspace is removed.
    event, nth = ("os.rename", death) if death < 3 else ("shutil.rmtree", 1)
    environment = {**os.environ, "PYTHONPATH": str(faults.ROOT)}
    killed = faults.run(faults.dying(event, "*", nth, script, folder / "model"), env=environment)
    assert killed.killed, killed.err
    files.remove_stale(folder)
    assert names_in(folder) == ["model"]
    assert names_in(folder / "model") == [content]


# Locks


def test_lock_excludes_others_and_follows_its_file(tmp_path):
    path = tmp_path / "lock"
    with files.locked(path, "busy") as exclusive:
        assert exclusive
        with pytest.raises(InputError, match="busy"), files.locked(path, "busy"):
            pass
        path.rename(tmp_path / "moved")
        with files.locked(path, "busy"):
            pass
    with files.locked(path, "busy"):
        path.unlink()
    assert names_in(tmp_path) == ["moved"]


def test_file_systems_without_locks_are_reported(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    with files.locked(tmp_path / "lock", "busy") as exclusive:
        assert exclusive is False
    (tmp_path / ".a.partial-0123abcd").mkdir()
    (tmp_path / ".a.partial-0123abcd" / ".writer-lock").touch()
    files.remove_stale(tmp_path)  # cannot know whether its process lives
    assert names_in(tmp_path) == [".a.partial-0123abcd", "lock"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256_of(tmp_path / "a").startswith("ba7816bf")


@pytest.mark.parametrize("existing", ["", "b"])
def test_several_files_are_published_together_or_not_at_all(tmp_path, existing):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        if path.name in existing:
            path.write_text("old")
    with pytest.raises(InputError, match="a: a directory"), files.replacing_all(paths) as temporaries:
        for temporary in temporaries.values():
            temporary.write_text("new")
        paths[0].mkdir()  # the last to be published
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"a", *existing})
    paths[0].rmdir()
    with files.replacing_all(paths) as temporaries:
        for temporary in temporaries.values():
            temporary.write_text("new")
    assert [path.read_text() for path in paths] == ["new"] * 3
