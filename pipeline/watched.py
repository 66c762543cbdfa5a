"""A command that runs in a process group of its own, is watched from outside, and can be killed at any instant."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

POLL_SECONDS = 0.002
_MAX_SECONDS = 600  # after which a command is taken to hang


class WatchedCommand:
    """A running command. As a context manager it leaves nothing running behind."""

    def __init__(self, command: Sequence[Any], **options: Any) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [str(each) for each in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,  # so that it can be killed with all that it started
            **options,
        )
        self.lines: list[str] = []  # of its stdout, so far
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=_read, args=(self._process.stdout, self.lines), daemon=True),
            threading.Thread(target=_read, args=(self._process.stderr, self._errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "WatchedCommand":
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._started

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it; False where it was done before, or goes on."""
        return self._process.poll() == -signal.SIGKILL

    @property
    def returncode(self) -> int | None:
        """Its exit code; negative: the signal that ended it; None while it runs."""
        return self._process.poll()

    @property
    def out(self) -> str:
        return "".join(self.lines)

    @property
    def err(self) -> str:
        return "".join(self._errors)

    def wait_until(self, seen: Callable[[], bool]) -> bool:
        """Return once `seen()` is true, or the command is done; True where it still runs.

        Raises:
            TimeoutError: neither came within ten minutes.
        """
        while self.running and not seen():
            if self.seconds > _MAX_SECONDS:
                raise TimeoutError(f"{' '.join(self._process.args[:2])} had not ended after {_MAX_SECONDS} s")
            time.sleep(POLL_SECONDS)
        return self.running

    def wait(self) -> int:
        """Wait for its end, with all that it printed, and return its exit code."""
        self.wait_until(lambda: False)
        return self._end()

    def send(self, signum: int) -> None:
        """Send a signal to the command alone."""
        self._process.send_signal(signum)

    def wait_at_most(self, seconds: float) -> int:
        """Wait for its end, or kill it so many seconds after its start; returns its exit code."""
        self.wait_until(lambda: self.seconds > seconds)
        return self.kill()

    def kill(self) -> int:
        """Send SIGKILL to it and to all that it started, wait for its end, and return its exit code."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._end()

    def _end(self) -> int:
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        return code


def _read(stream: TextIO, lines: list[str]) -> None:
    with stream:
        lines.extend(iter(stream.readline, ""))
