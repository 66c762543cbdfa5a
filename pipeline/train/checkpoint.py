"""Checkpoints: one file each, whole or absent, that hold all a run needs to go on as if it had not stopped.

A file is a NumPy archive (.npz) of the model's and the optimizer's variables and of one JSON text with the position,
the sums of the epoch so far and the history. Nothing in it is unpickled. There is no random state to keep: the feed's
order and the dropout masks follow from (seed, epoch, step).
"""

import dataclasses
import json
import pathlib
import re
import zipfile
import zlib
from typing import Any

import keras
import numpy as np

from pipeline.errors import InputError
from pipeline.files import replacing

_PATTERN = re.compile(r"checkpoint-(\d{9})\.npz")
BEST = "best.npz"
# What NumPy and zipfile raise for files that are cut or changed.
_UNREADABLE = (
    *(ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass
class TrainState:
    """Where a run stands. `step` of `epoch` is the next one; `totals` and `seconds` are of the epoch so far."""

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    totals: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class CheckpointStore:
    """The checkpoints in a directory: the newest `keep`, and the best."""

    def __init__(self, directory: str | pathlib.Path, keep: int = 2) -> None:
        self._directory = pathlib.Path(directory)
        self._keep = keep

    def save(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: TrainState, best: bool) -> None:
        """Write the checkpoint of `state`; with `best`, keep it also as the best one."""
        self._directory.mkdir(parents=True, exist_ok=True)
        arrays = {f"model/{place:04d}": np.asarray(value) for place, value in enumerate(model.get_weights())}
        for place, variable in enumerate(optimizer.variables):
            arrays[f"optimizer/{place:04d}"] = np.asarray(variable)
        text = json.dumps(dataclasses.asdict(state)).encode()
        arrays["state"] = np.frombuffer(text, np.uint8)
        # The best one first: a newest one whose history calls a lost file the best would never be put right.
        if best:
            _replace_with_archive(self._directory / BEST, arrays)
        _replace_with_archive(self._directory / f"checkpoint-{state.global_step:09d}.npz", arrays)
        for old in self._paths()[: -self._keep]:
            old.unlink(missing_ok=True)

    def restore_newest(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple[TrainState, list[str]]:
        """Load the newest readable checkpoint into model and optimizer.

        Returns:
            The state to go on from (a fresh one where there is no checkpoint), and a line for each damaged file passed
            over.

        Raises:
            InputError: there are checkpoints, and none can be read.
        """
        remarks = []
        for path in reversed(self._paths()):
            try:
                return _restore(path, model, optimizer), remarks
            except _UNREADABLE as error:
                remarks.append(f"{path}: damaged ({error}); falling back to the one before")
        if remarks:
            raise InputError(f"{self._directory}: no checkpoint can be read; start anew with --fresh ({remarks[-1]})")
        return TrainState(), remarks

    def restore_best(self, model: keras.Model) -> bool:
        """Load the best checkpoint's weights into the model; False where there is none that can be read."""
        try:
            _restore(self._directory / BEST, model, None)
        except _UNREADABLE:
            return False
        return True

    def _paths(self) -> list[pathlib.Path]:
        if not self._directory.is_dir():
            return []
        return sorted(path for path in self._directory.iterdir() if _PATTERN.fullmatch(path.name))


def _restore(path: pathlib.Path, model: keras.Model, optimizer) -> TrainState:
    with np.load(path, allow_pickle=False) as archive:
        # Everything is read, and so checked against the archive's CRC-32, before anything is assigned.
        arrays = {name: archive[name] for name in archive.files}
    state = TrainState(**json.loads(arrays["state"].tobytes()))
    weights = [arrays[f"model/{place:04d}"] for place in range(len(model.weights))]
    slots = optimizer.variables if optimizer is not None else []
    values = [arrays[f"optimizer/{place:04d}"] for place in range(len(slots))]
    for variable, value in zip(slots, values, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ValueError(f"optimizer variable {variable.path} has shape {value.shape}")
    model.set_weights(weights)
    for variable, value in zip(slots, values, strict=True):
        variable.assign(value)
    return state


def _replace_with_archive(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)
