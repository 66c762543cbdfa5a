"""What the program is doing at the moment: shown on a terminal while it lasts, and named in the answer to Ctrl-C."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

_CLEAR_LINE = "\r\x1b[K"
EXIT_INTERRUPTED = 128 + signal.SIGINT


class _Activity(NamedTuple):
    text: str
    at_once: bool


_activities: list[_Activity] = []  # the innermost last
_stops: list[str] = []
_listeners: list[Callable[[str], None]] = []
_lock = threading.Lock()
_is_ending = False
_stderr: int | None = None  # a copy of the descriptor, which is redirected while TensorFlow is imported


@contextlib.contextmanager
def doing(text: str, at_once: bool = False) -> Iterator[None]:
    """Report that the block does `text`, such as "evaluating"; `at_once`: Ctrl-C may end the process in it."""
    _activities.append(_Activity(text, at_once))
    _show()
    for listener in _listeners:
        listener(text)
    try:
        yield
    finally:
        _activities.pop()
        _show()


@contextlib.contextmanager
def stopping(how: str) -> Iterator[None]:
    """Within the block, Ctrl-C is answered by "stopping" and `how`, such as "after this step"."""
    _stops.append(how)
    try:
        yield
    finally:
        _stops.pop()


@contextlib.contextmanager
def reported_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Within the block, `listener` is called with the text of everything that begins."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def answer_interrupts() -> None:
    """From now on a thread answers Ctrl-C by a line on stderr, and a second Ctrl-C ends the process at once.

    A thread, because Python's own handlers wait for the call that the main thread is in, such as a step of training.
    """
    global _stderr
    _stderr = os.dup(2)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, as a shell does it for background jobs
    reader, writer = os.pipe()
    if os.name != "nt":
        os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_answer, args=(reader,), daemon=True).start()


def end() -> None:
    """Answer no more, because the program ends and says so itself."""
    global _is_ending
    with _lock:
        _is_ending = True


def _answer(reader: int) -> None:
    interrupts = 0
    while signals := os.read(reader, 64):
        for _ in range(signals.count(signal.SIGINT)):
            interrupts += 1
            with _lock:
                _answer_one(interrupts)


def _answer_one(interrupts: int) -> None:
    text, at_once = _activities[-1] if _activities else ("", False)
    if interrupts > 1 or at_once:
        _write(f"stopped{f' while {text}' if text else ''}\n")
        os._exit(EXIT_INTERRUPTED)
    if not _is_ending:
        how = _stops[-1] if _stops else f"({text})" if text else ""
        _write(f"{f'stopping {how}'.rstrip()}; Ctrl-C again stops at once\n")


def _show() -> None:
    """Replace the line of the terminal, if there is one, by the innermost activity."""
    if _stderr is not None and os.isatty(_stderr):
        _write(f"{_activities[-1].text} ..." if _activities else "")


def _write(text: str) -> None:
    if _stderr is not None:
        with contextlib.suppress(OSError):
            os.write(_stderr, ((_CLEAR_LINE if os.isatty(_stderr) else "") + text).encode())
