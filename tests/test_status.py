"""Ctrl-C in real processes, which answer it at once whatever they are doing, and the terminal's line of activities."""

import io
import os
import signal
import sys

import pytest

from pipeline import status
from pipeline.train.progress import Reporter
from tests.helpers import faults
from tests.helpers.commands import WatchedCommand

# A call of C that runs for minutes and, as a step of training, does not let Python's handlers run.
PROGRAM = """
import hashlib
from pipeline import cli, status
def main(_):
    with {block}:
        print("started", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
cli.run_command(main)
"""
AGAIN = "Ctrl-C again stops at once"


def interrupted(command, times, answer="", **options):
    """Interrupt a command `times` times once it has printed a line, each time after the answer to the one before."""
    with WatchedCommand(command, cwd=faults.ROOT, **options) as process:
        assert process.wait_until(lambda: process.lines), process.err
        process.send(signal.SIGINT)
        if times > 1:
            assert process.wait_until(lambda: answer in process.err)
            process.send(signal.SIGINT)
        process.wait()
    return process


@pytest.mark.parametrize(
    ("block", "answer"),
    [
        ("status.doing('evaluating')", f"stopping (evaluating); {AGAIN}\n"),
        ("status.stopping('after this step')", f"stopping after this step; {AGAIN}\n"),
    ],
)
def test_the_first_ctrl_c_is_answered_within_a_call_and_the_second_ends_it(block, answer):
    done = interrupted([sys.executable, "-c", PROGRAM.format(block=block)], 2, answer)
    assert done.returncode == status.EXIT_INTERRUPTED
    assert done.err.startswith(f"{answer}stopped")


def test_ctrl_c_ends_the_import_of_tensorflow_at_once(digits, tmp_path):
    train = ["train.py", "--data", digits, "--run-dir", tmp_path / "run", "--log-json"]
    done = interrupted([sys.executable, *train], 1)
    assert '"phase": "importing TensorFlow"' in done.out
    assert done.returncode == status.EXIT_INTERRUPTED
    # The thread answers, or the main thread, perhaps after it, if the import is in Python code at that moment.
    assert done.err.splitlines()[-1] in ("stopped while importing TensorFlow", "error: interrupted")
    assert len(done.err.splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_an_ignored_ctrl_c_stays_ignored():
    program = PROGRAM.replace("10**9", "10").format(block="status.doing('evaluating')")
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    raised = "        signal.raise_signal(signal.SIGINT)\ncli.run_command"
    program = f"{ignored}\n{program}".replace("cli.run_command", raised)
    done = faults.run([sys.executable, "-c", program], cwd=faults.ROOT)
    assert (done.returncode, done.err) == (0, "")


def test_a_terminal_shows_the_innermost_activity(monkeypatch):
    master, slave = os.openpty()
    monkeypatch.setattr(status, "_stderr", slave)
    with status.doing("evaluating"), status.doing("drawing"):
        pass
    expected = "".join(f"\r\x1b[K{text}" for text in ("evaluating ...", "drawing ...", "evaluating ...", ""))
    shown = b""
    while len(shown) < len(expected):
        shown += os.read(master, 1000)
    assert shown.decode() == expected
    os.close(slave)
    os.close(master)


def test_machines_get_activities_as_events():
    out = io.StringIO()
    with status.reported_to(Reporter(as_json=True, out=out).activity), status.doing("evaluating"):
        pass
    with status.doing("drawing"):
        pass
    assert out.getvalue() == '{"event": "phase", "text": "evaluating", "phase": "evaluating"}\n'
