"""Stopping on request: a signal is remembered, and the loop ends at the next checkpoint."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequested(Exception):
    """The run stopped early at a checkpoint. `signum` is 0 if another worker got the signal."""

    def __init__(self, signum: int) -> None:
        super().__init__("stopped")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 plus the signal."""
        return 128 + (self.signum or signal.SIGTERM)


class StopSignal:
    """Truthy once SIGTERM or SIGINT has come; `signum` is which."""

    def __init__(self) -> None:
        self.signum = 0

    def __bool__(self) -> bool:
        return self.signum != 0

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum == signal.SIGINT == signum:
            raise KeyboardInterrupt  # the second one: do not wait for the call to end
        self.signum = signum


@contextlib.contextmanager
def listen_for_stop() -> Iterator[StopSignal]:
    """Within the block, SIGTERM and Ctrl-C only set the yielded flag; a second Ctrl-C interrupts at once.

    If the block ends by itself although a signal came, because the loop had no more steps to stop before, the signal is
    raised again for the handlers from before.
    """
    stop = StopSignal()
    before = {signum: signal.signal(signum, stop._remember) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if stop:
        signal.raise_signal(stop.signum)
