"""One sentence on what holds training back: the slow stage, and the flag of train.py that mends it."""

import dataclasses

_BUSY = 0.95  # of the time: what is missing then is within what rounds differ by
_ALIKE = 1.25  # the hand-over is to blame only where the data set alone is faster by more than this


@dataclasses.dataclass(frozen=True)
class Stages:
    """Images/s of the data set alone, handed to the devices, of the step on a fixed batch, and of all together."""

    dataset: float
    feed: float
    step: float
    train: float

    @property
    def utilisation(self) -> float:
        """Share of the time in which the devices compute, as MLPerf Storage defines it."""
        return self.train / self.step


def verdict_of(stages: Stages, feed: str, scale: str, accelerator: str, steps_per_call: int) -> str:
    """What holds training back with these settings.

    Args:
        feed: host, device or stream.
        scale: device or host, where bytes become numbers.
        accelerator: GPU or CPU.
        steps_per_call: of the measured run.
    """
    share = f"the devices compute {stages.utilisation:.0%} of the time"
    headroom = stages.feed / stages.step
    longer_calls = f"--steps-per-call {4 * steps_per_call}"
    if stages.utilisation >= _BUSY:
        return (
            f"compute-bound: {share}, and the feed could deliver {headroom:,.1f} times what the step takes; the slow "
            "stage is the step, and benchmark.py step finds its fastest --precision, --steps-per-call and --xla"
        )
    if headroom > 1:
        slow = "the host's loop" if accelerator == "GPU" else "the host's loop or the feed, on the step's own processor"
        why = "though the feed is faster than the step"
        return f"bound by the host: {share}, {why}; the slow stage is {slow}; try {longer_calls}"
    slow, flag = _slow_stage(stages, feed, scale, accelerator, longer_calls)
    return f"input-bound: {share}, and the feed is slower than the step; the slow stage is {slow}; try {flag}"


def _slow_stage(stages: Stages, feed: str, scale: str, accelerator: str, longer_calls: str) -> tuple[str, str]:
    """What it is called, and the flag; only of a feed that is slower than the step."""
    if scale == "host":
        return "scaling on the host, or the floats on their way to the devices", "--scale device"
    if stages.dataset > _ALIKE * stages.feed:
        return "the hand-over to the devices", longer_calls if feed == "device" else "--feed device"
    if feed == "stream":
        return "reading from disk", "--feed host with a larger --memory-budget"
    if feed == "device":
        return "drawing the order", longer_calls
    return "the gather on the host", "--feed device" if accelerator == "GPU" else longer_calls
