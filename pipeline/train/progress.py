"""A run as seen from outside: the lines it prints, its images per second, and the signals that stop it."""

import contextlib
import json
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TextIO

from pipeline.cli import with_command_names
from pipeline.mirror import with_urls
from pipeline.status import stopping

_MAX_BAR = 30  # characters
_MIN_BAR = 8
_REFRESH_SECONDS = 0.1

# Of the line of an epoch: each figure in full and in short, and those to go without on a narrow terminal.
_FIGURES = {
    "loss": ("loss {:.4f}", "loss {:.4f}"),
    "accuracy": ("accuracy {:.2%}", "acc {:.2%}"),
    "val_loss": ("val loss {:.4f}", "val {:.4f}"),
    "val_accuracy": ("val accuracy {:.2%}", "val {:.2%}"),
    "images_per_second": ("{:,.0f} images/s", "{:,.0f} img/s"),
    "seconds": ("{:.1f} s", "{:.1f} s"),
    "gpu_utilisation": ("GPU {:.0%} busy", "GPU {:.0%}"),
    "gpu_memory_gib": ("{:.1f} GiB of its memory in use", "{:.1f} GiB"),
}
_LEAST_FIRST = (
    "seconds",
    "loss",
    "val_loss",
    "gpu_memory_gib",
    "images_per_second",
    "gpu_utilisation",
    "accuracy",
    "val_accuracy",
)


class Reporter:
    """Prints lines of a run; with `as_json`, objects with the line as `text`, a name as `event`, and typed fields."""

    def __init__(
        self,
        as_json: bool = False,
        out: TextIO | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._json, self._quiet, self._out, self._clock = as_json, quiet, out or sys.stdout, clock
        self._live = not as_json and not quiet and self._out.isatty()
        self._shown = -math.inf  # when the live line was written
        self._first: tuple[float, int] | None = None  # when the first step of this start was done, and which it was

    def line(self, text: str, event: str = "note", **fields: Any) -> None:
        """Print a line once. `event` and `fields` are what other programs read."""
        if self._quiet:
            return
        if self._live:
            self._out.write("\r\x1b[K")  # what a live line or an activity left there
        out = json.dumps({"event": event, "text": text, **fields}) if self._json else with_command_names(text)
        print(with_urls(out), file=self._out, flush=True)

    def activity(self, text: str) -> None:
        """Report what begins, as an event; a terminal shows it by itself (`pipeline/status.py`)."""
        if self._json:
            self.line(text, event="phase", phase=text)

    def step(self, epoch: int, epochs: int, step: int, steps: int, logs: Mapping[str, float]) -> None:
        """The position within an epoch (from 0), and the time left for all epochs; shown on a terminal only."""
        if not self._live:
            return
        now, done = self._clock(), epoch * steps + step
        if self._first is None or done < self._first[1]:
            self._first = now, done  # after compiling, which would be counted to each step; or after a recovery
        if now - self._shown < _REFRESH_SECONDS and step < steps:
            return
        started, before = self._first
        left = (now - started) / (done - before) * (epochs * steps - done) if done > before else None
        # A carriage return cannot take back a line that wraps.
        width = shutil.get_terminal_size().columns - 1
        self._out.write(f"\r\x1b[K{_live_line(width, epoch, epochs, step, steps, logs, left)}")
        self._out.flush()
        self._shown = now

    def epoch(self, epochs: int, row: Mapping[str, Any]) -> None:
        """The figures of a finished epoch: a row of the history, and what `GpuMonitor.read` gave."""
        width = shutil.get_terminal_size().columns if self._live else sys.maxsize
        self.line(_epoch_line(width, epochs, row), event="epoch", **row)


def _live_line(
    width: int, epoch: int, epochs: int, step: int, steps: int, logs: Mapping[str, float], left: float | None
) -> str:
    """A line of at most `width` characters: figures that do not fit beside the bar are omitted, the last ones first."""
    start = f"epoch {epoch + 1}/{epochs} "
    parts = [
        f" {step}/{steps}",
        f"  {_clock_text(left)} left" if left is not None else "",
        f"  loss {logs['loss']:.4f}",
    ]
    parts.append(f"  accuracy {logs['accuracy']:.1%}")
    if logs["images_per_second"]:  # known from the second call on
        parts.append(f"  {logs['images_per_second']:,.0f} images/s")
    text = ""
    for part in parts:
        if len(start) + _MIN_BAR + len(text) + len(part) > width:
            break
        text += part
    bar = max(0, min(_MAX_BAR, width - len(start) - len(text)))
    full = bar * step // steps
    return (start + "━" * full + "╌" * (bar - full) + text)[:width]


def _clock_text(seconds: float) -> str:
    """Seconds as 0:05, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _epoch_line(width: int, epochs: int, row: Mapping[str, Any]) -> str:
    """A line of at most `width` characters: shorter words, and without the least figures, if all do not fit."""

    def line(form: int) -> str:
        return "  ".join([f"epoch {row['epoch']}/{epochs}", *(_FIGURES[key][form].format(row[key]) for key in keys)])

    keys = [key for key in _FIGURES if key in row]
    if len(line(0)) <= width:
        return line(0)
    for least in _LEAST_FIRST:
        if len(line(1)) > width:
            keys = [key for key in keys if key != least]
    return line(1)


class ThroughputMeter:
    """Counts images, wall seconds and CPU seconds between the first mark and the last.

    A rate over n marks has n - 1 intervals: the images of the first mark were worked on before the clock was read, so
    they do not count (TensorFlow Datasets' own meter counts them, and reads a quarter high on short runs).
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._images, self._seconds, self._cpu_seconds = 0, 0.0, 0.0

    def mark(self, images: int) -> None:
        """Say that `images` more are done. The first mark only starts the clock."""
        now, cpu = self._clock(), time.process_time()
        if self._first is None:
            self._first = now, cpu
            return
        self._images += images
        self._seconds, self._cpu_seconds = now - self._first[0], cpu - self._first[1]

    @property
    def images_per_second(self) -> float:
        """0.0 until there is an interval to measure."""
        return self._images / self._seconds if self._seconds > 0 else 0.0

    @property
    def cpu_seconds_per_image(self) -> float:
        """CPU time of all threads of this process between the first mark and the last, for one image."""
        return self._cpu_seconds / self._images if self._images else 0.0


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
    """Truthy once SIGTERM or SIGINT has come; `signum` says which."""

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
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread alone
        yield stop
        return
    before = {signum: signal.signal(signum, stop._remember) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        with stopping("after this step, with a checkpoint"):
            yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if stop:
        signal.raise_signal(stop.signum)
