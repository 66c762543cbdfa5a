"""What a run left, as hashes: weights, optimizer, history, and the ids that it trained on in their order."""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.feed.order import Steps, epoch_order
from pipeline.feed.resident import load_split
from pipeline.format.manifest import load_manifest

_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.npz")
_OF_THE_CLOCK = ("seconds", "images_per_second")


def newest_step(run_dir: pathlib.Path) -> int:
    """Global step of the newest checkpoint; 0 where there is none."""
    folder = run_dir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))), default=0)


def half_written(run_dir: pathlib.Path) -> set[str]:
    """Names of the temporaries in a run directory: what was being written when the process was killed."""
    return {path.name for path in run_dir.rglob(".*") if path.name != ".lock"}


@dataclasses.dataclass(frozen=True)
class Ending:
    """The last checkpoint of a run, and its evaluation. The history is without what the clock says."""

    weights: tuple[np.ndarray, ...]
    optimizer: tuple[np.ndarray, ...]
    history: list[dict[str, Any]]
    evaluation: dict[str, Any]

    @classmethod
    def read(cls, run_dir: pathlib.Path) -> "Ending":
        path = run_dir / "checkpoints" / f"checkpoint-{newest_step(run_dir):09d}.npz"
        with np.load(path, allow_pickle=False) as archive:
            groups = [
                tuple(archive[name] for name in sorted(archive.files) if name.startswith(kind))
                for kind in ("model/", "optimizer/")
            ]
            state = json.loads(archive["state"].tobytes())
        history = [{key: row[key] for key in sorted(row) if key not in _OF_THE_CLOCK} for row in state["history"]]
        evaluation = json.loads((run_dir / "evaluation.json").read_text(encoding="utf-8"))
        return cls(*groups, history, evaluation)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each part, by its name."""
        return {
            "weights": hash_arrays(self.weights),
            "optimizer": hash_arrays(self.optimizer),
            "history": _hash_json(self.history),
            "evaluation": _hash_json(self.evaluation),
        }

    def farthest_weight(self, other: "Ending") -> float:
        """The largest difference of two weights in the same place."""
        pairs = zip(self.weights, other.weights, strict=True)
        # NumPy's max, unlike Python's, does not lose a NaN.
        return float(np.max([np.abs(mine - theirs).max(initial=0.0) for mine, theirs in pairs]))


class Ledger:
    """The ids of the examples of each step, by the arithmetic that the feed goes by."""

    def __init__(self, data: pathlib.Path, batch_size: int, seed: int) -> None:
        self._ids = load_split(data, load_manifest(data), "train").ids
        self._steps = Steps(len(self._ids), batch_size)
        self._seed = seed

    @property
    def steps_per_epoch(self) -> int:
        return self._steps.per_epoch

    def sha256(self, trained: Iterable[range]) -> str:
        """Hash of the ids, in their order, of steps that were trained and kept, a range for each start of a run."""
        digest = hashlib.sha256()
        for steps in trained:
            for step in steps:
                digest.update(self.ids(step).tobytes())
        return digest.hexdigest()

    def ids(self, global_step: int) -> np.ndarray:
        """int64 [n] ids of a step, n at most the batch size."""
        epoch, step = divmod(global_step, self._steps.per_epoch)
        batch = self._steps.batch_size
        return self._ids[epoch_order(len(self._ids), self._seed, epoch)[step * batch : (step + 1) * batch]]


def hash_arrays(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 over dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def hash_directory(directory: pathlib.Path) -> str:
    """SHA-256 over the names and bytes of all files in a directory."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            digest.update(f"{path.relative_to(directory)}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()


def _hash_json(value: Any) -> str:
    # repr of a float, which JSON text is made of, tells any two apart.
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
