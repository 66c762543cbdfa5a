"""What a run says while it trains: a live line on a terminal, a line an epoch elsewhere, or JSON for machines."""

import json
import shutil
import sys
from typing import Any, TextIO


class Reporter:
    """Prints lines of a run, and JSON objects instead with `as_json`."""

    def __init__(self, as_json: bool = False, out: TextIO | None = None, quiet: bool = False) -> None:
        self._json, self._quiet = as_json, quiet
        self._out = out or sys.stdout
        self._live = not as_json and not quiet and self._out.isatty()
        self._line_open = False

    def line(self, text: str, **event: Any) -> None:
        """Say something once. `event` is what machines read of it."""
        if self._quiet:
            return
        self._close_line()
        print(json.dumps({"event": "note", "text": text, **event}) if self._json else text, file=self._out, flush=True)

    def step(self, epoch: int, epochs: int, step: int, steps: int, logs: dict[str, float]) -> None:
        """The position within an epoch; shown on a terminal only."""
        if self._live:
            width = 24
            filled = width * step // steps
            bar = "━" * filled + "╺" * (filled < width) + " " * (width - filled - 1)
            text = f"epoch {epoch + 1}/{epochs} {bar[:width]} {step}/{steps}  {_figures(logs)}"
            # A line that wraps cannot be taken back by a carriage return.
            self._out.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self._out.flush()
            self._line_open = True

    def epoch(self, epoch: int, epochs: int, logs: dict[str, float]) -> None:
        """The figures of a finished epoch."""
        self.line(f"epoch {epoch + 1}/{epochs}  {_figures(logs)}", event="epoch", epoch=epoch + 1, **logs)

    def _close_line(self) -> None:
        if self._line_open:
            self._out.write("\r\x1b[K")
            self._line_open = False


def _figures(logs: dict[str, float]) -> str:
    forms = {
        "loss": "loss {:.4f}",
        "accuracy": "accuracy {:.2%}",
        "val_loss": "val loss {:.4f}",
        "val_accuracy": "val accuracy {:.2%}",
        "images_per_second": "{:,.0f} images/s",
        "seconds": "{:.1f} s",
    }
    return "  ".join(form.format(logs[key]) for key, form in forms.items() if key in logs)
