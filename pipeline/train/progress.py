"""A run as seen from outside: the lines it prints, its images per second, and the signals that stop it."""

import contextlib
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TextIO

_BAR = 24  # characters


class Reporter:
    """Prints lines of a run; with `as_json`, objects with the line as `text`, a name as `event`, and typed fields."""

    def __init__(self, as_json: bool = False, out: TextIO | None = None, quiet: bool = False) -> None:
        self._json, self._quiet, self._out = as_json, quiet, out or sys.stdout
        self._live = not as_json and not quiet and self._out.isatty()
        self._line_open = False

    def line(self, text: str, event: str = "note", **fields: Any) -> None:
        """Print a line once. `event` and `fields` are what other programs read."""
        if self._quiet:
            return
        if self._line_open:
            self._out.write("\r\x1b[K")
            self._line_open = False
        out = json.dumps({"event": event, "text": text, **fields}) if self._json else text
        print(out, file=self._out, flush=True)

    def step(self, epoch: int, epochs: int, step: int, steps: int, logs: Mapping[str, float]) -> None:
        """The position within an epoch (from 0); shown on a terminal only."""
        if self._live:
            bar = ("━" * (_BAR * step // steps) + "╺").ljust(_BAR)[:_BAR]
            text = f"epoch {epoch + 1}/{epochs} {bar} {step}/{steps}  {_figures(logs)}"
            # A carriage return cannot take back a line that wraps.
            self._out.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self._out.flush()
            self._line_open = True

    def epoch(self, epochs: int, row: Mapping[str, Any]) -> None:
        """The figures of a finished epoch: a row of the history, and what `GpuMonitor.read` gave."""
        self.line(f"epoch {row['epoch']}/{epochs}  {_figures(row)}", event="epoch", **row)


def _figures(logs: Mapping[str, Any]) -> str:
    forms = {
        "loss": "loss {:.4f}",
        "accuracy": "accuracy {:.2%}",
        "val_loss": "val loss {:.4f}",
        "val_accuracy": "val accuracy {:.2%}",
        "images_per_second": "{:,.0f} images/s",
        "seconds": "{:.1f} s",
        "gpu_utilisation": "GPU {:.0%} busy",
        "gpu_memory_gib": "{:.1f} GiB of its memory in use",
    }
    return "  ".join(form.format(logs[key]) for key, form in forms.items() if key in logs)


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
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if stop:
        signal.raise_signal(stop.signum)
