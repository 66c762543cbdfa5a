"""Stopping when asked: a signal is remembered, and the loop ends at the next call."""

import contextlib
import signal
from collections.abc import Iterator


class StopRequested(Exception):
    """The run stopped early at a checkpoint. `signum` is 0 where another worker was told."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 plus the signal."""
        return 128 + (self.signum or signal.SIGTERM)


class StopSignal:
    """Truthy once SIGTERM or SIGINT has come; `signum` says which."""

    def __init__(self) -> None:
        self.signum = 0

    def __bool__(self) -> bool:
        return self.signum != 0

    def _remember(self, signum, _frame) -> None:
        if self.signum == signal.SIGINT == signum:
            raise KeyboardInterrupt  # asked twice: do not wait for the call to end
        self.signum = signum


@contextlib.contextmanager
def listen_for_stop() -> Iterator[StopSignal]:
    """Within the block, SIGTERM and Ctrl-C only set the yielded flag; a second Ctrl-C interrupts at once."""
    stop = StopSignal()
    before = {signum: signal.signal(signum, stop._remember) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
