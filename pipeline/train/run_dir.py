"""The run directory: what was run, how far it came, and what a second start of the same command may go on from."""

import csv
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import InputError
from pipeline.files import write_text_atomically

CONFIG_NAME = "config.json"
HISTORY_NAME = "history.csv"
CHECKPOINTS_NAME = "checkpoints"
COLUMNS = (
    *("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy"),
    *("images_per_second", "seconds", "learning_rate"),
)


class RunDirectory:
    """A directory that belongs to one run. `identity` in its config.json is what makes two starts the same run."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = pathlib.Path(os.path.normpath(path))

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / CHECKPOINTS_NAME

    def claim(self, config: Mapping[str, Any], write: bool) -> None:
        """Take the directory for a run with this config.json, whose `identity` any earlier one must equal.

        Args:
            write: False on workers that leave writing to the chief.

        Raises:
            InputError: it holds another run's files, or is something else; nothing was changed.
        """
        path = self.path / CONFIG_NAME
        if path.is_file():
            self._check_identity(path, config["identity"])
        elif self.path.exists() and (not self.path.is_dir() or any(map(_is_visible, self.path.iterdir()))):
            raise InputError(f"{self.path}: it is there, but not a run directory; choose another --run-dir")
        if write:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text_atomically(path, json.dumps(config, indent=1, sort_keys=True) + "\n")

    def identity(self) -> dict[str, Any] | None:
        """The identity of the run that is here, or None where there is none (or none that can be read)."""
        try:
            found = json.loads((self.path / CONFIG_NAME).read_text(encoding="utf-8"))["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, dict) else None

    def set_aside(self) -> pathlib.Path | None:
        """Rename an earlier run out of the way, and return its new path; nothing is deleted, nothing else is moved."""
        if self.identity() is None:
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write history.csv: one row an epoch; a figure that a run does not have (no validation) is left empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text_atomically(self.path / HISTORY_NAME, text.getvalue())

    def _check_identity(self, path: pathlib.Path, identity: Mapping[str, Any]) -> None:
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))["identity"]
            names = sorted({*earlier, *identity})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a run's configuration; choose another --run-dir or use --fresh") from error
        differ = [
            f"{name} {earlier.get(name)} -> {identity.get(name)}" for name in names if _differs(earlier, identity, name)
        ]
        if differ:
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(differ)}); "
                "give the same settings to resume it, another --run-dir, or --fresh to set it aside"
            )


def _is_visible(path: pathlib.Path) -> bool:
    # A worker may look while the chief writes the first config.json, which begins as a hidden file.
    return not path.name.startswith(".")


def _differs(earlier: Mapping[str, Any], identity: Mapping[str, Any], name: str) -> bool:
    return earlier.get(name) != json.loads(json.dumps(identity.get(name)))
