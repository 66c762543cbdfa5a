import errno
import os
import pathlib
import subprocess
import sys

import pytest

from pipeline import files
from pipeline.errors import InputError
from tests.helpers import faults

REPLACES = "import sys; from pipeline.files import replacing\nwith replacing(sys.argv[1]) as temporary:\n"


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
    path = tmp_path / "a.b.npz"
    files.write_text(path, "old\n")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        assert temporary.name == "a.b.npz"  # by which some writers choose their format
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old\n"
    assert names_in(tmp_path) == ["a.b.npz"]


@pytest.mark.parametrize(
    ("create", "kind"),
    [
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: os.mkfifo(path), "a device or a FIFO"),
        (lambda path: path.symlink_to("/dev/null"), "a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
        (None, "a device or a FIFO"),
    ],
    ids=["directory", "FIFO", "link to a device", "dangling link", "device"],
)
def test_only_regular_files_are_replaced(tmp_path, create, kind):
    path = tmp_path / "out.json" if create else pathlib.Path("/dev/null")
    if create:
        create(path)
    before = path.lstat()
    with pytest.raises(InputError, match=f"{path}: {kind}, not a regular file; choose another path"):
        files.write_text(path, "{}")
    assert path.lstat() == before
    assert create is None or names_in(path.parent) == ["out.json"]


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


def test_directory_with_files_is_replaced_and_flushed_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    synced, path, flush = [], tmp_path / "model", os.fsync

    def record(handle):
        synced.append((os.fstat(handle).st_ino, names_in(path)))
        flush(handle)

    write_directory(path, "old")
    monkeypatch.setattr(os, "fsync", record)
    write_directory(path, "new")
    inner, whole, parent = (entry.stat().st_ino for entry in (path / "new", path, tmp_path))
    assert synced == [(inner, ["old"]), (whole, ["old"]), (parent, ["new"])]
    assert names_in(tmp_path) == ["model"]


# Full disks and errors of the system


def test_full_disk_error_gives_the_bytes_needed(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    line = r"a.bin: File too large; it takes 10,000 bytes and [0-9,]+ are free there; make room"
    with faults.small_files(8192), pytest.raises(InputError, match=line):
        files.write_bytes(path, bytes(10000))
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_recognized_by_its_words_and_the_bytes_written_are_counted(tmp_path, code):
    line = f"m.keras: {os.strerror(code)}; it takes more than 9 bytes and"
    with pytest.raises(InputError, match=line), files.replacing(tmp_path / "m.keras") as temporary:
        temporary.write_bytes(bytes(9))
        raise RuntimeError(f"unable to write: {os.strerror(code)} (file offset 96)")


@pytest.mark.parametrize("named", [False, True])
def test_error_of_the_system_names_the_final_file(tmp_path, named):
    path = tmp_path / "a.npz"
    with pytest.raises(OSError, match="Input/output error") as caught, files.replacing(path) as temporary:
        raise OSError(errno.EIO, os.strerror(errno.EIO), *([str(temporary)] if named else []))
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as caught:
        files.write_text(tmp_path / "none" / "a.txt", "x")
    assert caught.value.filename == str(tmp_path / "none" / "a.txt")


# Publishing directories


@pytest.fixture
def publish(tmp_path):
    """Publishes a directory with the file `new` in the place of one with the file `mine`."""
    make_directory(tmp_path / "data", "mine")
    new = make_directory(tmp_path / "partial", "new")
    return lambda check_old: files.publish_directory(new, tmp_path / "data", check_old)


def test_old_directory_is_checked_where_no_other_program_finds_it(tmp_path, publish):
    checked = []
    publish(lambda old: checked.append((names_in(old), (tmp_path / "data").exists())))
    assert checked == [(["mine"], False)]
    assert (names_in(tmp_path), names_in(tmp_path / "data")) == (["data"], ["new"])


def refuse(old):
    raise InputError("mine is not of the data set")


@pytest.mark.parametrize(
    ("check_old", "message"),
    [(None, "data: a directory that may not be replaced"), (refuse, "mine is not of the data set")],
    ids=["may not be replaced", "fails its check"],
)
def test_old_directory_stays_if_it_is_not_to_be_replaced(tmp_path, publish, check_old, message):
    with pytest.raises(InputError, match=message):
        publish(check_old)
    assert names_in(tmp_path / "data") == ["mine"]
    assert names_in(tmp_path) == ["data", "partial"]


def test_directory_that_appears_at_the_last_moment_is_not_replaced(tmp_path, publish, monkeypatch):
    monkeypatch.setattr(files, "_kind", lambda _: None)
    with pytest.raises(InputError, match="data: created by another program meanwhile"):
        publish(None)
    assert names_in(tmp_path / "data") == ["mine"]


def test_old_directory_whose_name_was_taken_meanwhile_is_kept(tmp_path, publish):
    with pytest.raises(InputError, match=r"its earlier content is now .*data\.old-"):
        publish(lambda _: make_directory(tmp_path / "data", "theirs"))
    assert names_in(tmp_path / "data") == ["theirs"]
    (kept,) = tmp_path.glob("data.old-*")
    assert names_in(kept) == ["mine"]


# Leftovers of killed processes


def test_only_leftovers_of_killed_writers_are_removed(tmp_path):
    faults.leave_stale_temporary(tmp_path / "best.npz")
    others = [".lock", ".notes.partial-0123abcd", "saved_model"]
    for name in others:
        make_directory(tmp_path / name, "mine")
    code = "    temporary.touch(); print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", f"{REPLACES}{code}", str(tmp_path / "written")]
    with subprocess.Popen(command, cwd=faults.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        assert len(names_in(tmp_path)) == 5
        files.remove_stale(tmp_path)
        writer.stdin.close()
        assert writer.wait() == 0
    assert names_in(tmp_path) == [*others, "written"]


@pytest.mark.parametrize(("death", "content"), [(1, "old"), (2, "old"), (3, "new")])
def test_directory_is_old_or_new_wherever_its_writer_was_killed(tmp_path, death, content):
    script = tmp_path / "write.py"
    script.write_text(f"{REPLACES}    temporary.mkdir(); (temporary / 'new').touch()")
    folder = tmp_path / "folder"
    folder.mkdir()
    make_directory(folder / "model", "old")
    # The renames: old aside, new into place; then the workspace is removed.
    event, nth = ("os.rename", death) if death < 3 else ("shutil.rmtree", 1)
    environment = {**os.environ, "PYTHONPATH": str(faults.ROOT)}
    killed = faults.run(faults.dying(event, "*.partial-*", nth, script, folder / "model"), env=environment)
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


def test_what_a_process_left_that_was_killed_before_its_lock_is_removed(tmp_path):
    (tmp_path / ".a.partial-0123abcd").mkdir()
    kept = tmp_path / ".b.partial-0123abcd"
    kept.mkdir()
    (kept / "mine").write_text("of someone else")
    files.remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]
