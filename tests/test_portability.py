"""What Windows and macOS lack is not needed to import any module. Only Linux runs the other tests."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
UNIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
PROGRAM = """
import importlib, os, signal, sys
sys.modules.update(dict.fromkeys({unix_only}))
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask"):
    delattr(signal, name)
import tensorflow, tensorflow.python.distribute.distribute_lib
for name in ("fork", "getuid", "killpg", "mkfifo", "sched_getaffinity", "sysconf"):
    delattr(os, name)
for module in {modules}:
    importlib.import_module(module)
"""


def modules():
    """Names of all modules except those of tests."""
    paths = [path for room in ("models", "pipeline", "tools") for path in ROOT.glob(f"{room}/**/*.py")]
    return ["train", *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)]


def test_no_module_needs_what_only_unix_has():
    assert len(modules()) > 100
    program = PROGRAM.format(unix_only=UNIX_ONLY, modules=modules())
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
