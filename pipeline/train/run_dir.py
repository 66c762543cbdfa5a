"""The run directory: what was run, how far it got, and what a second start of the same command resumes from."""

import contextlib
import csv
import io
import itertools
import json
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.errors import InputError
from pipeline.files import locked, remove_stale, write_text
from pipeline.mirror import CONFIG_NAME, local_copy
from pipeline.train.state import TrainState
from pipeline.train.stored import Identity, StoredData, StoredRun, parse_json

HISTORY_NAME, STEPS_NAME, LOCK_NAME = "history.csv", "steps.csv", ".lock"
CHECKPOINTS_NAME = "checkpoints"
COLUMNS = (
    *("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy"),
    *("images_per_second", "seconds", "learning_rate", "gpu_utilisation"),
)
STEP_COLUMNS = ("step", "loss", "accuracy", "learning_rate", "images_per_second", "feed_wait")


class RunDirectory:
    """A directory that belongs to one run: the `identity` in its config.json makes two starts the same run.

    As a context manager it releases, at the end, what `claim` has locked.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = pathlib.Path(os.path.normpath(path))
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / CHECKPOINTS_NAME

    def earlier(self) -> StoredRun | None:
        """The run that the directory's config.json records, or None if there is no such file.

        Raises:
            InputError: it is not a run's configuration.
        """
        path = self.path / CONFIG_NAME
        try:
            return parse_json(path.read_bytes(), StoredRun)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise InputError(
                f"{path}: not a run's configuration ({error}); choose another --run-dir or use --fresh"
            ) from error

    def claim(self, identity: Identity, config: Mapping[str, Any], fresh: bool = False) -> tuple[str, list[str]]:
        """Lock the directory for a run with this identity and write its config.json.

        No other process can claim it until this one releases it or ends. What a killed run left half-written in it is
        removed.

        Args:
            identity: must equal that of any earlier run here.
            config: what else config.json holds; its "settings" are the options as given, for messages.
            fresh: rename an earlier run out of the way instead; nothing is deleted, nothing else is moved.

        Returns:
            The name of this start, which config.json then holds, and lines for the user.

        Raises:
            InputError: another process trains in it, it holds another run's files, or is not a run directory; nothing
                was changed.
        """
        self._check(identity, fresh, config)
        self.path.mkdir(parents=True, exist_ok=True)
        remarks = self._take_lock()
        if fresh and self._holds_a_run():
            remarks.append(f"the earlier run is now {self._set_aside()}")
            self.path.mkdir(exist_ok=True)
            remarks += self._take_lock()
        self._check(identity, False, config)  # again: the directory may have changed before it was locked
        for folder in (self.path, *filter(pathlib.Path.is_dir, self.path.iterdir())):
            remove_stale(folder)
        start = secrets.token_hex(8)
        content = {**config, "identity": msgspec.to_builtins(identity), "start": start}
        write_text(self.path / CONFIG_NAME, json.dumps(content, indent=1, sort_keys=True) + "\n")
        return start, remarks

    def write_history(self, state: TrainState) -> None:
        """Write history.csv, a row per epoch, and steps.csv; a figure that a run does not have is left empty."""
        steps = [row.figures() for row in state.step_rows]
        tables: Any = (HISTORY_NAME, COLUMNS, state.history), (STEPS_NAME, STEP_COLUMNS, steps)
        for name, columns, rows in tables:
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(self.path / name, text.getvalue())

    def _check(self, identity: Identity, fresh: bool, config: Mapping[str, Any]) -> None:
        """Check that a run of this identity may be here, without changing anything; InputError as for `claim`."""
        if fresh and self._holds_a_run():
            if pathlib.Path.cwd().is_relative_to(self.path.resolve()):
                raise InputError(f"{self.path}: --fresh cannot rename the current directory; choose another --run-dir")
        elif (earlier := self.earlier()) is not None:
            self._check_identity(earlier, identity, config)
        elif self.path.exists() and (not self.path.is_dir() or any(map(_is_visible, self.path.iterdir()))):
            raise InputError(f"{self.path}: exists but is not a run directory; choose another --run-dir")

    def _check_identity(self, earlier: StoredRun, identity: Identity, config: Mapping[str, Any]) -> None:
        differ = earlier.differences(identity, msgspec.convert(config.get("data", {}), StoredData))
        if "order" in differ:
            raise InputError(
                f"{self.path} holds a run whose examples were shuffled differently by another version of this program "
                "or of NumPy; resume with that version, or give another --run-dir or --fresh"
            )
        if differ:
            requested = config.get("settings", {}).get("steps_per_call")
            if "steps_per_call" in differ and requested not in (None, identity.steps_per_call):
                # The calls of an epoch are made even, so the run uses another number than the user gave.
                differ["steps_per_call"] += f" (from --steps-per-call {requested})"
            changes = "; ".join(f"{name} {values}" for name, values in differ.items())
            raise InputError(
                f"{self.path} holds a run with other settings ({changes}); "
                "give the same settings to resume it, another --run-dir, or --fresh to set it aside"
            )

    def _take_lock(self) -> list[str]:
        """Hold the directory's lock until the process ends; the kernel releases it even after SIGKILL."""
        self._lock.close()
        busy = f"{self.path}: another process trains in it; wait for it or choose another --run-dir"
        if self._lock.enter_context(locked(self.path / LOCK_NAME, busy)):
            return []
        return [f"{self.path}: file locking is not supported here; do not run two trainings in this directory"]

    def _holds_a_run(self) -> bool:
        # A corrupt config.json is still ours if our lock is beside it.
        try:
            return self.earlier() is not None
        except InputError:
            return (self.path / CONFIG_NAME).is_file() and (self.path / LOCK_NAME).is_file()

    def _set_aside(self) -> pathlib.Path:
        names = (self.path.with_name(f"{self.path.name}.old-{number}") for number in itertools.count(1))
        return self.path.rename(next(name for name in names if not name.exists()))


def newest_checkpoint(run_dir: pathlib.Path) -> pathlib.Path:
    """The file whose weights another run can start from; InputError if there is none."""
    paths = sorted((local_copy(run_dir) / CHECKPOINTS_NAME).glob("checkpoint-*.npz"))
    if not paths:
        raise InputError(f"{run_dir}: no checkpoints, so no weights to start from; name the directory of a run")
    return paths[-1]


def _is_visible(path: pathlib.Path) -> bool:
    # A worker may look while the chief writes the first config.json, which begins as a hidden file.
    return not path.name.startswith(".")
