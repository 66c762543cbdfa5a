"""When to kill a training: random instants, drawn before it starts and spread over all that it does."""

import dataclasses
import random

STARTUP, TRAINING, REPORT = "startup", "training", "report"

_ONE_IN = 5  # kills are of a start that has not trained yet, and as many of one that has finished training


@dataclasses.dataclass(frozen=True)
class Instant:
    """A phase of a run, in TRAINING the step to wait for first, and the part (0..1) of the phase's length to let pass.

    In TRAINING that length is of two intervals between checkpoints, so that kills hit steps as well as writing.
    """

    phase: str
    delay: float
    step: int = 0


def draw_instants(kills: int, last_step: int, rng: random.Random) -> list[Instant]:
    """`kills` instants in the order in which one run can meet them; the first is of TRAINING."""
    few = kills // _ONE_IN
    steps = sorted(rng.randint(1, max(1, last_step)) for _ in range(kills - 2 * few))
    found = [Instant(TRAINING, rng.random(), step) for step in steps]
    for _ in range(few):
        found.insert(rng.randint(1, len(found)), Instant(STARTUP, rng.random()))
    return found + [Instant(REPORT, rng.random()) for _ in range(few)]
