"""One sentence on the bottleneck of training, with the option of train.py that may remove it."""

import dataclasses

_BUSY = 0.95  # utilisation from which training counts as compute-bound: rounds differ by about as much
_MUCH_FASTER = 1.25  # the copy to the devices is the bottleneck if the data set alone is faster by this factor


@dataclasses.dataclass(frozen=True)
class Stages:
    """Images per second of the data set alone, copied to the devices, of the step on a fixed batch, and in training."""

    dataset: float
    feed: float
    step: float
    train: float

    @property
    def utilisation(self) -> float:
        """Share of the time in which the accelerators compute (accelerator utilisation of MLPerf Storage)."""
        return self.train / self.step


def diagnose(stages: Stages, feed: str, scale: str, accelerator: str, steps_per_call: int) -> str:
    """The bottleneck of training with these settings.

    Args:
        feed: host, device or stream.
        scale: device or host; where bytes are scaled to floats.
        accelerator: GPU or CPU.
        steps_per_call: of the measured run.
    """
    noisy = stages.utilisation > 2 - _BUSY
    remark = " (above 100% is noise: measure more or longer rounds)" if noisy else ""
    utilisation = f"accelerator utilisation {stages.utilisation:.1%}{remark}"
    longer_calls = f"--steps-per-call {4 * steps_per_call}"
    if stages.utilisation >= _BUSY:
        return (
            f"compute-bound: {utilisation}; the feed delivers {stages.feed / stages.step:,.1f} times what the step "
            "takes; to train faster, compare --precision, --steps-per-call and --xla with tools/benchmark.py step"
        )
    if stages.feed > stages.step:
        slow = "the host's loop" + (", or the feed on the step's own cores" if accelerator == "CPU" else "")
        why = "although the feed is faster than the step"
        return f"host-bound: {utilisation}, {why}; bottleneck: {slow}; try {longer_calls}"
    slow, option = _slow_stage(stages, feed, scale, accelerator, longer_calls)
    return f"input-bound: {utilisation}, and the feed is slower than the step; bottleneck: {slow}; try {option}"


def _slow_stage(stages: Stages, feed: str, scale: str, accelerator: str, longer_calls: str) -> tuple[str, str]:
    """Name of the bottleneck and what to try, for a feed that is slower than the step."""
    if scale == "host":
        return "scaling on the host, or copying floats to the devices", "--scale device"
    if stages.dataset > _MUCH_FASTER * stages.feed:
        return "copying batches to the devices", longer_calls if feed == "device" else "--feed device"
    if feed == "stream":
        return "reading from disk", "--feed host with a larger --memory-budget"
    if feed == "device":
        return "drawing the order", longer_calls
    return "gathering batches on the host", "--feed device" if accelerator == "GPU" else longer_calls
