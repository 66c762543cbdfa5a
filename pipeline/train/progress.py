"""What a run prints while it trains: a live line on a terminal, a line per epoch elsewhere, or JSON for machines."""

import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any, TextIO


class Reporter:
    """Prints lines of a run; with `as_json`, objects with the line as `text`, a name as `event`, and typed fields."""

    def __init__(self, as_json: bool = False, out: TextIO | None = None, quiet: bool = False) -> None:
        self._json, self._quiet = as_json, quiet
        self._out = out or sys.stdout
        self._live = not as_json and not quiet and self._out.isatty()
        self._line_open = False

    def line(self, text: str, event: str = "note", **fields: Any) -> None:
        """Print a line once. `event` and `fields` are what other programs read."""
        if self._quiet:
            return
        self._close_line()
        out = json.dumps({"event": event, "text": text, **fields}) if self._json else text
        print(out, file=self._out, flush=True)

    def step(self, epoch: int, epochs: int, step: int, steps: int, logs: Mapping[str, float]) -> None:
        """The position within an epoch (from 0); shown on a terminal only."""
        if self._live:
            width = 24
            filled = width * step // steps
            bar = "━" * filled + "╺" * (filled < width) + " " * (width - filled - 1)
            text = f"epoch {epoch + 1}/{epochs} {bar[:width]} {step}/{steps}  {_figures(logs)}"
            # A carriage return cannot take back a line that wraps.
            self._out.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self._out.flush()
            self._line_open = True

    def epoch(self, epochs: int, row: Mapping[str, Any]) -> None:
        """The figures of a finished epoch: a row of the history."""
        self.line(f"epoch {row['epoch']}/{epochs}  {_figures(row)}", event="epoch", **row)

    def _close_line(self) -> None:
        if self._line_open:
            self._out.write("\r\x1b[K")
            self._line_open = False


def _figures(logs: Mapping[str, Any]) -> str:
    forms = {
        "loss": "loss {:.4f}",
        "accuracy": "accuracy {:.2%}",
        "val_loss": "val loss {:.4f}",
        "val_accuracy": "val accuracy {:.2%}",
        "images_per_second": "{:,.0f} images/s",
        "seconds": "{:.1f} s",
    }
    return "  ".join(form.format(logs[key]) for key, form in forms.items() if key in logs)
