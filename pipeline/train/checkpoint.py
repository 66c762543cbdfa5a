"""Checkpoints: one file each, whole or absent, that hold all a run needs to go on as if it had not stopped.

A file is a NumPy archive (.npz) of the model's and the optimizer's variables and of one JSON text with the position,
the sums of the epoch so far and the history. Nothing in it is unpickled. There is no random state to keep: the feed's
order and the dropout masks follow from (seed, epoch, step).
"""

import dataclasses
import io
import json
import math
import pathlib
import re
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from pipeline.errors import InputError
from pipeline.files import write_bytes

_PATTERN = re.compile(r"checkpoint-(\d{9})\.npz")
BEST = "best.npz"
_MAX_HEADER_BYTES = 2**12  # of an array's name, type and shape
_MAX_STATE_BYTES = 2**28  # a history of a million epochs is about as long
# What NumPy and zipfile raise for files that are cut or changed.
_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, NotImplementedError, RuntimeError),
    *(MemoryError, zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass
class TrainState:
    """Where a run stands. `step` of `epoch` is the next one; `totals` and `seconds` are of the epoch so far.

    `audit` is what EpochAudit has counted of the epoch so far, uint8 [num_examples + 1], or None where it has not;
    `recoveries` is how often the run has gone back to a checkpoint with a lower learning rate.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    totals: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    recoveries: int = 0
    audit: np.ndarray | None = dataclasses.field(default=None, compare=False)


class CheckpointStore:
    """The checkpoints in a directory: the newest `keep`, and the best.

    With `in_background`, `save` only copies the variables, and a thread writes them while training goes on. Without,
    what `save` has written is there for other processes when it returns.
    """

    def __init__(self, directory: str | pathlib.Path, keep: int = 2, in_background: bool = False) -> None:
        self._directory = pathlib.Path(directory)
        self._keep = keep
        self._writer = ThreadPoolExecutor(1) if in_background else None
        self._writing: Future | None = None

    def save(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: TrainState, best: bool) -> None:
        """Write the checkpoint of `state`; with `best`, keep it also as the best one.

        Raises:
            InputError: the disk is full, now or when the one before was written; earlier checkpoints are as they were.
        """
        self.wait()
        arrays = _snapshot(model, optimizer, state)
        if self._writer is None:
            self._write(arrays, state.global_step, best)
        else:
            self._writing = self._writer.submit(self._write, arrays, state.global_step, best)

    def wait(self) -> None:
        """Return when all that was saved is on the disk.

        Raises:
            InputError: the disk is full.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def has_any(self, before: int | None = None) -> bool:
        """Whether there is a checkpoint of a step lower than `before`."""
        self.wait()
        return bool(self._paths(before))

    def restore_newest(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, before: int | None = None
    ) -> tuple[TrainState, list[str]]:
        """Load the newest readable checkpoint, of a step lower than `before`, into model and optimizer.

        Returns:
            The state to go on from (a fresh one where there is no checkpoint), and a line for each damaged file passed
            over.

        Raises:
            InputError: there are checkpoints, and none can be read; or something that is no file has the name of one.
        """
        self.wait()
        self._check_places()
        damaged = []
        for path in reversed(self._paths(before)):
            try:
                state = _restore(path, model, optimizer, _step_of(path))
            except _UNREADABLE as error:
                damaged.append(f"{path}: damaged ({error})")
            else:
                return state, [f"{each}; falling back to the one before" for each in damaged]
        if damaged:
            raise InputError(f"{self._directory}: no checkpoint can be read; start anew with --fresh ({damaged[-1]})")
        return TrainState(), []

    def restore_best(self, model: keras.Model) -> bool:
        """Load the best checkpoint's weights into the model; False where there is none that can be read."""
        self.wait()
        try:
            _restore(self._directory / BEST, model, None)
        except _UNREADABLE:
            return False
        return True

    def _check_places(self) -> None:
        """Refuse what no checkpoint can be read from or replace, before an epoch is trained for nothing."""
        for path in [*self._paths(), self._directory / BEST]:
            if path.exists() and not path.is_file():
                raise InputError(f"{path}: not a file; move it away")

    def _write(self, arrays: dict[str, np.ndarray], step: int, best: bool) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Packed in memory first, so that what a full disk lacks is known to the byte.
        file = io.BytesIO()
        np.savez(file, **arrays)
        data = file.getvalue()
        # The best one first: a newest one whose history calls a lost file the best would never be put right.
        if best:
            write_bytes(self._directory / BEST, data)
        write_bytes(self._path(step), data)
        self._remove_others(step)

    def _remove_others(self, newest: int) -> None:
        """Keep the newest ones up to the step `newest`. Those beyond it were damaged, or the run would have resumed
        there; they would be taken for the newest, and take the place of whole ones."""
        paths = self._paths()
        beyond = [path for path in paths if _step_of(path) > newest]
        for path in beyond + paths[: len(paths) - len(beyond)][: -self._keep]:
            path.unlink(missing_ok=True)

    def _path(self, step: int) -> pathlib.Path:
        return self._directory / f"checkpoint-{step:09d}.npz"

    def _paths(self, before: int | None = None) -> list[pathlib.Path]:
        if not self._directory.is_dir():
            return []
        paths = sorted(path for path in self._directory.iterdir() if _PATTERN.fullmatch(path.name))
        return [path for path in paths if before is None or _step_of(path) < before]


def _step_of(path: pathlib.Path) -> int:
    return int(_PATTERN.fullmatch(path.name)[1])


def _snapshot(model: keras.Model, optimizer: keras.optimizers.Optimizer, state: TrainState) -> dict[str, np.ndarray]:
    """Copies of all that a checkpoint holds, by their names in the archive."""
    # On a CPU an array may share its memory with the variable, which the next step writes to.
    arrays = {name: np.asarray(variable).copy() for name, variable in _variables(model, optimizer).items()}
    fields = dict(vars(state))
    if (counted := fields.pop("audit")) is not None:
        arrays["audit"] = np.asarray(counted).copy()
    arrays["state"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
    return arrays


def _restore(path: pathlib.Path, model: keras.Model, optimizer, step: int | None = None) -> TrainState:
    """Load a checkpoint, which must be that of `step` if one is given; with no optimizer, the model's weights only."""
    variables = _variables(model, optimizer)
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no whole archive")  # NumPy would take it for a pickle, and advise to load that
    with np.load(path, allow_pickle=False) as archive:
        _check_sizes(archive, variables)
        # Everything is read, and so checked against the archive's CRC-32, before anything is assigned.
        values = {name: archive[name] for name in variables}
        state = _parse_state(archive["state"].tobytes())
        state.audit = archive.get("audit")
    if step is not None and state.global_step != step:
        raise ValueError(f"it is of step {state.global_step}")
    for name, variable in variables.items():
        have, want = values[name], (tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype))
        if (have.shape, have.dtype.name) != want:
            raise ValueError(f"{name} ({variable.path}) is {have.dtype.name} {have.shape}, not {want[1]} {want[0]}")
    for name, variable in variables.items():
        variable.assign(values[name])
    return state


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> dict[str, keras.Variable]:
    """The variables by their names in an archive."""
    named = {f"model/{place:04d}": variable for place, variable in enumerate(model.weights)}
    slots = optimizer.variables if optimizer is not None else []
    return {**named, **{f"optimizer/{place:04d}": variable for place, variable in enumerate(slots)}}


def _check_sizes(archive, variables: dict[str, keras.Variable]) -> None:
    """Refuse what would not fit the variables before it is read: a small file can unpack to any size."""
    for info in archive.zip.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in variables:
            most = _MAX_STATE_BYTES
        else:
            dtype = np.dtype(keras.backend.standardize_dtype(variables[name].dtype))
            most = math.prod(variables[name].shape) * dtype.itemsize + _MAX_HEADER_BYTES
        if info.file_size > most:
            raise ValueError(f"{name} takes {info.file_size:,} bytes, at most {most:,} expected")


def _parse_state(text: bytes) -> TrainState:
    state = TrainState(**json.loads(text))
    numbers = state.epoch, state.step, state.global_step, state.recoveries
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"its position is {numbers}")
    lists = isinstance(state.totals, list) and isinstance(state.history, list)
    if not (lists and all(isinstance(row, dict) for row in state.history)):
        raise ValueError("its history is no table")
    return state
