"""Finding an id that stands on two rows, without keeping every id where they count up."""

import numpy as np


class IdCheck:
    """Ids of a split as they come. Blocks that count up by one are kept as their first and last id, 16 bytes each."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, int] | np.ndarray] = []
        self._last = -1
        self._increasing = True

    def add(self, ids: np.ndarray) -> None:
        """The next rows' ids, int64 [n]."""
        if len(ids) == 0:
            return
        steps = np.diff(ids)
        self._increasing &= bool(ids[0] > self._last and (steps > 0).all())
        self._last = int(ids[-1])
        counts_up = bool((steps == 1).all())
        self._blocks.append((int(ids[0]), int(ids[-1])) if counts_up else ids)

    def first_duplicate(self) -> tuple[int, int, int] | None:
        """(id, row that has it, row that has it again) with the least such later row, or None."""
        if self._increasing:
            return None
        ids = np.concatenate(
            [
                block[0] + np.arange(block[1] - block[0] + 1) if isinstance(block, tuple) else block
                for block in self._blocks
            ]
        )
        order = np.argsort(ids, kind="stable")
        again = np.flatnonzero(np.diff(ids[order]) == 0) + 1
        if len(again) == 0:
            return None
        place = again[order[again].argmin()]
        return int(ids[order[place]]), int(order[place - 1]), int(order[place])
