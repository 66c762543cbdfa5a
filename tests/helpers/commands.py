"""Commands in processes of their own: run to the end, or watched from outside and killed at any time."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

ROOT = pathlib.Path(__file__).parent.parent.parent
_POLL_SECONDS = 0.002
_MAX_SECONDS = 600  # after which a command counts as hung


def run_script(folder: pathlib.Path, *command: Any, expect: int = 0, **options: Any) -> tuple[str, str]:
    """Run `python COMMAND`, a script of this repository, in `folder`; returns (stdout, stderr)."""
    script, *arguments = map(str, command)
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout, done.stderr


class WatchedCommand:
    """A running command. As a context manager it leaves nothing running."""

    def __init__(self, command: Sequence[Any], **options: Any) -> None:
        self._started = time.monotonic()
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A session of its own, so that a kill reaches all that it started.
        settings = {**pipes, "errors": "backslashreplace", "start_new_session": True, **options}
        self._process = subprocess.Popen(list(map(str, command)), **settings)
        self.lines: list[str] = []  # of stdout, so far
        self._errors: list[str] = []
        streams = (self._process.stdout, self.lines), (self._process.stderr, self._errors)
        self._readers = [threading.Thread(target=_read, args=stream, daemon=True) for stream in streams]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "WatchedCommand":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._started

    @property
    def running(self) -> bool:
        return self.returncode is None

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.returncode == -signal.SIGKILL

    @property
    def returncode(self) -> int | None:
        """The exit code; negative: the signal that ended it; None while it runs."""
        return self._process.poll()

    @property
    def out(self) -> str:
        return "".join(self.lines)

    @property
    def err(self) -> str:
        return "".join(self._errors)

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Return once `condition()` holds or the command ended; True if it still runs.

        Raises:
            TimeoutError: neither happened within ten minutes of its start.
        """
        while self.running and not condition():
            if self.seconds > _MAX_SECONDS:
                raise TimeoutError(f"a command did not end within {_MAX_SECONDS} s")
            time.sleep(_POLL_SECONDS)
        return self.running

    def wait(self) -> int:
        """Wait for its end and for all of its output; returns the exit code."""
        self.wait_until(lambda: False)
        return self._end()

    def send(self, signum: int) -> None:
        """Send a signal to the command alone."""
        self._process.send_signal(signum)

    def kill(self) -> int:
        """Send SIGKILL to it and to all that it started, wait for its end, and return the exit code."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._end()

    def _end(self) -> int:
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        return code


def _read(stream: IO[str], lines: list[str]) -> None:
    with stream:
        lines.extend(iter(stream.readline, ""))
