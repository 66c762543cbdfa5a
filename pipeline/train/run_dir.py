"""The run directory: what was run, how far it came, and what a second start of the same command may go on from."""

import csv
import errno
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import InputError
from pipeline.files import lock_file, remove_stale, write_text

CONFIG_NAME = "config.json"
HISTORY_NAME = "history.csv"
CHECKPOINTS_NAME = "checkpoints"
LOCK_NAME = ".lock"
COLUMNS = (
    *("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy"),
    *("images_per_second", "seconds", "learning_rate"),
)


class RunDirectory:
    """A directory that belongs to one run. `identity` in its config.json is what makes two starts the same run.

    As a context manager it lets go, at the end, of what `claim` took.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = pathlib.Path(os.path.normpath(path))
        self._lock: int | None = None

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_) -> None:
        self._release()

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / CHECKPOINTS_NAME

    def claim(self, config: Mapping[str, Any], fresh: bool = False) -> list[str]:
        """Take the directory for a run with this config.json; no other process can until this one lets go or ends.

        What a killed run left half-written in it is removed.

        Args:
            config: its `identity` must equal that of any earlier run here.
            fresh: rename an earlier run out of the way instead; nothing is deleted, nothing else is moved.

        Returns:
            What the user should know, a line each.

        Raises:
            InputError: another process trains in it, it holds another run's files, or it is something else; nothing
                was changed.
        """
        self.check(config, any_settings=fresh)
        self.path.mkdir(parents=True, exist_ok=True)
        remarks = self._take_lock()
        if fresh and self._holds_a_run():
            remarks.append(f"the earlier run is now {self._set_aside()}")
            self.path.mkdir(exist_ok=True)
            remarks += self._take_lock()
        self.check(config)  # again: what was seen before the lock may have changed
        for folder in (self.path, *filter(pathlib.Path.is_dir, self.path.iterdir())):
            remove_stale(folder)
        remarks += self._other_versions(config)
        write_text(self.path / CONFIG_NAME, json.dumps(config, indent=1, sort_keys=True) + "\n")
        return remarks

    def check(self, config: Mapping[str, Any], any_settings: bool = False) -> None:
        """Look whether a run with this config.json may be here, without changing anything.

        Raises:
            InputError: as for `claim`, but for the lock.
        """
        path = self.path / CONFIG_NAME
        if any_settings and self._holds_a_run():
            return
        if path.is_file():
            self._check_identity(path, config)
        elif self.path.exists() and (not self.path.is_dir() or any(map(_is_visible, self.path.iterdir()))):
            raise InputError(f"{self.path}: it is there, but not a run directory; choose another --run-dir")

    def identity(self) -> dict[str, Any] | None:
        """The identity of the run that is here, or None where there is none (or none that can be read)."""
        return self._earlier("identity") or None

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write history.csv: one row an epoch; a figure that a run does not have (no validation) is left empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.path / HISTORY_NAME, text.getvalue())

    def _take_lock(self) -> list[str]:
        """Hold the directory until the process ends; the kernel lets go of it even after SIGKILL."""
        self._release()
        try:
            self._lock = lock_file(self.path / LOCK_NAME)
        except BlockingIOError as error:
            raise InputError(
                f"{self.path}: another process trains in it; wait for it or choose another --run-dir"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            return [f"{self.path}: this file system knows no locks; start no second training in it"]
        return []

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _holds_a_run(self) -> bool:
        # A damaged config.json is still ours where there is our lock.
        path = self.path / CONFIG_NAME
        return self.identity() is not None or (path.is_file() and (self.path / LOCK_NAME).is_file())

    def _set_aside(self) -> pathlib.Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside

    def _other_versions(self, config: Mapping[str, Any]) -> list[str]:
        """A line where the run was started with other versions of what computes."""
        earlier, now = self._earlier("versions"), config.get("versions", {})
        differ = [
            f"{name} {earlier[name]} -> {now[name]}"
            for name in ("tensorflow", "keras")
            if name in earlier and name in now and earlier[name] != now[name]
        ]
        return [f"other versions than before ({', '.join(differ)}); figures may differ from here on"] if differ else []

    def _earlier(self, key: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / CONFIG_NAME).read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _check_identity(self, path: pathlib.Path, config: Mapping[str, Any]) -> None:
        identity = config["identity"]
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))["identity"]
            names = sorted({*earlier, *identity})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: not a run's configuration; choose another --run-dir or use --fresh") from error
        differ = [
            f"{name} {earlier.get(name)} -> {identity.get(name)}{_asked(config, name)}"
            for name in names
            if _differs(earlier, identity, name)
        ]
        if _differs(earlier, identity, "order"):
            raise InputError(
                f"{self.path} holds a run whose examples come in another order than this version of the program, or of "
                "NumPy, draws; go on with the earlier version, or give another --run-dir or --fresh"
            )
        if differ:
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(differ)}); "
                "give the same settings to resume it, another --run-dir, or --fresh to set it aside"
            )


def _is_visible(path: pathlib.Path) -> bool:
    # A worker may look while the chief writes the first config.json, which begins as a hidden file.
    return not path.name.startswith(".")


def _asked(config: Mapping[str, Any], name: str) -> str:
    """What the user gave, where it is a number that came to another one: calls of an epoch are made even."""
    asked, found = config.get("settings", {}).get(name), config["identity"].get(name)
    came_to_another = isinstance(asked, int) and found is not None and asked != found
    return f" (from --{name.replace('_', '-')} {asked})" if came_to_another else ""


def _differs(earlier: Mapping[str, Any], identity: Mapping[str, Any], name: str) -> bool:
    return earlier.get(name) != json.loads(json.dumps(identity.get(name)))
