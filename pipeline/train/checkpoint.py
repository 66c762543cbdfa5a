"""Checkpoints: one file each, complete or absent, with all a run needs to resume as if it had not stopped.

A file is a NumPy archive (.npz) of the model's and the optimizer's variables and of one JSON text: the run's identity,
what it was computed with, the position, the sums of the epoch so far and the history. Nothing in it is unpickled. The
only random state is that of Keras's own layers in a user's network, which are variables of the model: the feed's order,
augmentation and dropout masks follow from (seed, epoch, step).
"""

import io
import math
import pathlib
import re
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import msgspec
import numpy as np

from pipeline.errors import InputError
from pipeline.feed.order import Steps
from pipeline.files import write_bytes
from pipeline.mirror import Mirror
from pipeline.train.archive import UNREADABLE, parse_array, read_members
from pipeline.train.run_dir import newest_checkpoint
from pipeline.train.state import TrainState
from pipeline.train.stored import Stamp, parse_json

_PATTERN = re.compile(r"checkpoint-(\d{9,18})\.npz")
BEST = "best.npz"
_STATE = "state"
_MAX_STATE_BYTES = 2**28  # a history of a million epochs is about as long


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stamp: Stamp
    state: TrainState


class CheckpointStore:
    """The checkpoints of a run in a directory: the newest `keep`, and the best.

    With `in_background`, `save` only copies the variables, and a thread writes them while training continues. Without,
    other processes can read what `save` has written when it returns. With a `mirror`, of the run directory, that is
    what they pull.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        stamp: Stamp,
        steps: Steps,
        keep: int = 2,
        in_background: bool = False,
        mirror: Mirror | None = None,
    ) -> None:
        self._directory, self._stamp, self._steps, self._keep = directory, stamp, steps, keep
        self._mirror = mirror
        self._writer = ThreadPoolExecutor(1) if in_background else None
        self._writing: Future[None] | None = None

    def save(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: TrainState, best: bool = False
    ) -> None:
        """Write the checkpoint of `state`; with `best`, keep it also as the best one.

        Raises:
            InputError: the disk is full, now or when the last one was written; earlier checkpoints are unchanged.
        """
        self.wait()
        # On a CPU an array may share its memory with the variable, which the next step writes to.
        arrays = {name: np.asarray(variable).copy() for name, variable in _variables(model, optimizer).items()}
        arrays[_STATE] = np.frombuffer(msgspec.json.encode(_Record(self._stamp, state)), np.uint8)
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

    def restore_newest(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, before: int | None = None
    ) -> tuple[TrainState | None, list[str]]:
        """Load the newest readable checkpoint, of a step lower than `before`, into model and optimizer.

        Returns:
            The state to resume from (None if there is no checkpoint), and lines for the user: each corrupt file passed
            over, and other libraries or processor instructions than those that computed the checkpoint.

        Raises:
            InputError: there are checkpoints and none can be read, one is of another run, or is not a file.
        """
        self.wait()
        self._pull()
        for path in [*self._paths(), self._directory / BEST]:
            # Nothing can be read from it, and replacing it would fail after an epoch was trained in vain.
            if path.exists() and not path.is_file():
                raise InputError(f"{path}: not a file; move it away")
        corrupt: list[str] = []
        for path in reversed(self._paths(before)):
            try:
                record, values = self._read(path, _variables(model, optimizer))
                if record.state.global_step != _step_of(path):
                    raise ValueError(f"it is of step {record.state.global_step}")
            except InputError:
                raise
            except UNREADABLE as error:
                corrupt.append(f"{path}: corrupt ({error})")
                continue
            _assign(values, _variables(model, optimizer))
            change = self._stamp.numerics.change_from(record.stamp.numerics)
            skipped = [f"{line}; falling back to the previous one" for line in corrupt]
            return record.state, [*skipped, *([change] if change else [])]
        if corrupt:
            raise InputError(f"{self._directory}: no readable checkpoint; start again with --fresh ({corrupt[-1]})")
        return None, []

    def restore_best(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> bool:
        """Load the best checkpoint, with the weights' average that the optimizer holds; False if it cannot be read."""
        self.wait()
        self._pull()
        try:
            _, values = self._read(self._directory / BEST, _variables(model, optimizer))
        except UNREADABLE:
            return False
        _assign(values, _variables(model, optimizer))
        return True

    def _read(self, path: pathlib.Path, variables: dict[str, keras.Variable]) -> tuple[_Record, dict[str, np.ndarray]]:
        """A checkpoint's record and the values of these variables, all checked; one of UNREADABLE if it is corrupt."""
        kinds = {name: _kind(variable) for name, variable in variables.items()}
        limits = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in kinds.items()}
        members = read_members(path, {**limits, _STATE: _MAX_STATE_BYTES + 2 * self._steps.num_examples})
        record = parse_json(parse_array(_STATE, members[_STATE], np.dtype(np.uint8)).tobytes(), _Record)
        if differ := record.stamp.identity.differences(self._stamp.identity):
            changes = "; ".join(f"{name} {values}" for name, values in differ.items())
            raise InputError(f"{path}: a checkpoint of another run ({changes}); move it away")
        record.state.check(self._steps, self._stamp.identity.epochs)
        return record, {name: parse_array(name, members[name], *kind) for name, kind in kinds.items()}

    def _write(self, arrays: dict[str, np.ndarray], step: int, best: bool) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Packed in memory first, so that a full disk's error can give the size.
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        data = file.getvalue()
        # The best one first: if it is lost after the newest is written, no later epoch replaces it.
        if best:
            write_bytes(self._directory / BEST, data)
        write_bytes(self._directory / f"checkpoint-{step:09d}.npz", data)
        self._remove_others(step)
        if self._mirror is not None:
            self._mirror.try_push()

    def _pull(self) -> None:
        if self._mirror is not None:
            self._mirror.pull()

    def _remove_others(self, newest: int) -> None:
        """Keep the newest ones up to the step `newest`."""
        kept = self._paths(before=newest + 1)[-self._keep :]
        # Those beyond it are corrupt, or the run would have resumed there; they would push out intact ones.
        for path in set(self._paths()) - set(kept):
            path.unlink(missing_ok=True)

    def _paths(self, before: int | None = None) -> list[pathlib.Path]:
        if not self._directory.is_dir():
            return []
        paths = sorted((path for path in self._directory.iterdir() if _PATTERN.fullmatch(path.name)), key=_step_of)
        return [path for path in paths if before is None or _step_of(path) < before]


def load_weights(run_dir: pathlib.Path, model: keras.Model) -> None:
    """Give a model the weights of the newest checkpoint of a run that trained the same network.

    They are those that training had, not their moving average, and their moving statistics belong to them.

    Raises:
        InputError: there is no checkpoint, it cannot be read, or it is of a network of other variables.
    """
    names = {f"model/{place:04d}": variable for place, variable in enumerate(model.variables)}
    path = newest_checkpoint(run_dir)
    try:
        limits = {name: math.prod(variable.shape) * 8 for name, variable in names.items()}
        members = read_members(path, limits)
        values = {name: parse_array(name, members[name], *_kind(variable)) for name, variable in names.items()}
    except UNREADABLE as error:
        raise InputError(f"{path}: not the weights of this network ({error}); give the --model of that run") from error
    _assign(values, names)


def _kind(variable: keras.Variable) -> tuple[np.dtype, tuple[int, ...]]:
    return np.dtype(keras.backend.standardize_dtype(variable.dtype)), tuple(variable.shape)


def _step_of(path: pathlib.Path) -> int:
    return int(path.stem.removeprefix("checkpoint-"))


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """The variables by their names in an archive."""
    named = {f"model/{place:04d}": variable for place, variable in enumerate(model.variables)}
    return {**named, **{f"optimizer/{place:04d}": variable for place, variable in enumerate(optimizer.variables)}}


def _assign(values: dict[str, np.ndarray], variables: dict[str, keras.Variable]) -> None:
    for name, variable in variables.items():
        variable.assign(values[name])
