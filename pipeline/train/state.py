"""The position of a run and what its training has measured so far: the part of a checkpoint besides the variables."""

import dataclasses
import math
from typing import NamedTuple

from pipeline.errors import InputError
from pipeline.feed.order import Steps
from pipeline.train.stored import Count, EpochRow


class StepRow(NamedTuple):
    """Some consecutive steps up to the global step `step`, of one call or several: sums, and the rate after them.

    `seconds` are the wall time of the calls, in `waited` of which there was no batch yet.
    """

    step: Count
    loss: float
    correct: float
    examples: float
    seconds: float
    waited: float
    learning_rate: float

    def joined(self, later: "StepRow") -> "StepRow":
        """Both as one row."""
        sums = [ours + theirs for ours, theirs in zip(self[1:-1], later[1:-1], strict=True)]
        return StepRow._make([later.step, *sums, later.learning_rate])

    def figures(self) -> dict[str, float]:
        """The row of steps.csv: means over its examples, and rates over its seconds."""
        return {
            "step": self.step,
            "loss": self.loss / self.examples,
            "accuracy": self.correct / self.examples,
            "learning_rate": self.learning_rate,
            "images_per_second": self.examples / self.seconds,
            "feed_wait": self.waited / self.seconds,
        }


@dataclasses.dataclass
class TrainState:
    """The position of a run: `step` of `epoch` is the next one; `totals` and `seconds` are of the epoch so far.

    `totals` are the sums of loss, correct predictions and examples. `audit` is what EpochAudit has counted of the epoch
    so far, or None if not all of it was counted; `recoveries` is how often the run has gone back to a checkpoint with a
    lower learning rate; `dealt_to` is the number of workers that this epoch's stream is dealt to, 1 without a stream.
    """

    epoch: Count = 0
    step: Count = 0
    global_step: Count = 0
    totals: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seconds: float = 0.0
    history: list[EpochRow] = dataclasses.field(default_factory=list)
    recoveries: Count = 0
    audit: bytes | None = dataclasses.field(default=None, compare=False)
    dealt_to: Count = 1
    step_rows: list[StepRow] = dataclasses.field(default_factory=list)

    def add(self, row: StepRow, every: int) -> None:
        """Advance by the steps of a row. Those that end within the same `every` steps share one of `step_rows`."""
        count = row.step - self.global_step
        self.step, self.global_step = self.step + count, row.step
        loss, correct, examples = self.totals
        self.totals = loss + row.loss, correct + row.correct, examples + row.examples
        self.seconds += row.seconds
        last = self.step_rows[-1] if self.step_rows else None
        if last and (last.step - 1) // every == (row.step - 1) // every:
            self.step_rows[-1] = last.joined(row)
        else:
            self.step_rows.append(row)

    def deal_to(self, workers: int) -> None:
        """Continue with the epoch dealt to so many workers.

        Raises:
            InputError: it was begun with another number, so rows would be trained on twice and others not at all.
        """
        if self.step and workers != self.dealt_to:
            raise InputError(
                f"the newest checkpoint is inside epoch {self.epoch + 1} of a stream dealt to {self.dealt_to} "
                f"worker(s), not {workers}; resume with {self.dealt_to}, and change the number between epochs"
            )
        self.dealt_to = workers

    def check(self, steps: Steps, epochs: int | None) -> None:
        """Check that a run of these steps, and of so many epochs if not None, can stand here; ValueError if not."""
        on_a_call = self.step < steps.per_epoch and self.step % steps.steps_per_call == 0
        if not on_a_call or self.global_step != self.epoch * steps.per_epoch + self.step:
            place = f"epoch {self.epoch}, step {self.step}, global step {self.global_step}"
            raise ValueError(f"{place} is not a position of it")
        if epochs is not None and self.epoch > epochs:
            raise ValueError(f"it is at epoch {self.epoch} of {epochs}")
        # The length first: an invalid epoch can be of any size.
        if len(self.history) != self.epoch or any(
            (row["epoch"], row["step"]) != (k, k * steps.per_epoch) for k, row in enumerate(self.history, start=1)
        ):
            raise ValueError("its history does not have one row per epoch")
        if not math.isclose(self.totals[2], self.step * steps.batch_size, rel_tol=1e-6) or self.seconds < 0:
            raise ValueError(f"its totals {self.totals} are not those of {self.step} steps")
        ends = [0, *(row.step for row in self.step_rows), self.global_step + 1]
        if sorted(set(ends)) != ends or any(min(row.examples, row.seconds) <= 0 for row in self.step_rows):
            raise ValueError("its rows of steps are not those of a run")
