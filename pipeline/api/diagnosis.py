"""What held a training back: a sentence on its speed and one on its accuracy, of what its numbers support."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.train.gpu_monitor import idle_reason

_WAITING = 0.1  # share of the time without a batch from which the feed holds training back
_COMPILING = 0.3  # share of the time that the first call takes
_CHANGE = 0.05  # of a validation loss; less is noise
_TINY = 1e-12
_STANDARD_ERRORS = 2.0  # that two accuracies may differ by chance

Rows = Sequence[Mapping[str, float | None]]


def diagnose_speed(history: Rows, steps: Rows, batch_size: int) -> str | None:
    """From the rows of history.csv and steps.csv; None if there are too few."""
    if not history or len(steps) < 3:
        return None
    seconds = sum(row["seconds"] or 0 for row in history)
    first = (steps[0]["step"] or 0) * batch_size / (steps[0]["images_per_second"] or math.inf)
    if first > _COMPILING * seconds:
        return f"The first {steps[0]['step']:.0f} steps, which compile, took {first:.1f} of {seconds:.1f} s."
    wait = statistics.median(row["feed_wait"] or 0 for row in steps[1:])
    busy = [value for row in history if (value := row.get("gpu_utilisation"))]
    if busy and (reason := idle_reason(statistics.mean(busy), wait)):
        return f"{reason[0].upper()}{reason[1:]}."
    if wait > _WAITING:
        return (
            f"Training waited for batches {wait:.0%} of the time, so the feed held it back; "
            "tools/benchmark.py train finds the stage."
        )
    gpu = f"; the GPU was busy {statistics.mean(busy):.0%} of it" if busy else ""
    return f"Training waited for batches {wait:.1%} of the time, so the step set its pace, not the feed{gpu}."


def diagnose_accuracy(history: Rows, splits: Mapping[str, Any], judged: str | None, schedule: str) -> str:
    """From the rows of history.csv, and the evaluation of `train` and of the rows that validate, if there are any."""
    rows = [row for row in history if row.get("val_loss") is not None]
    if judged is None or not rows:
        return "No rows validate, so neither over-fitting nor too few epochs can be seen."
    val = splits[judged]
    # A loss is mostly that of its wrong rows, whose number varies by its square root.
    noise = max(_CHANGE, 1 / math.sqrt(max(1, (1 - val["accuracy"]) * val["num_examples"])))
    return (
        _over_fitting(rows, noise)
        or _still_falling(rows, noise, schedule)
        or _compare(splits["train"], val, judged, len(rows))
    )


def _over_fitting(rows: Sequence[Mapping[str, Any]], noise: float) -> str | None:
    best = min(rows, key=lambda row: row["val_loss"])
    rise = rows[-1]["val_loss"] / max(best["val_loss"], _TINY) - 1
    if rise <= noise or rows[-1]["loss"] >= best["loss"]:
        return None
    return (
        f"The validation loss was lowest at epoch {best['epoch']:.0f} of {len(rows)} and rose by {rise:.0%} while the "
        "training loss fell: over-fitting; try more augmentation, --weight-decay or --patience."
    )


def _still_falling(rows: Sequence[Mapping[str, Any]], noise: float, schedule: str) -> str | None:
    before = min((row["val_loss"] for row in rows[:-1]), default=0.0)
    fall = 1 - rows[-1]["val_loss"] / max(before, _TINY)
    if fall <= noise:
        return None
    how = "a larger --epochs continues this run"
    if schedule != "constant":
        how = f"the {schedule} schedule has ended, so give a new run a larger --epochs"
    return f"The validation loss still fell by {fall:.0%} in the last epoch, so more epochs may help: {how}."


def _compare(train: Mapping[str, Any], val: Mapping[str, Any], name: str, epochs: int) -> str:
    (p, n), (q, m) = ((split["accuracy"], split["num_examples"]) for split in (train, val))
    mean = (p * n + q * m) / (n + m)
    chance = _STANDARD_ERRORS * math.sqrt(mean * (1 - mean) * (1 / n + 1 / m))
    if p - q > chance:
        return (
            f"Rows of train are {p:.2%} right, of {name} {q:.2%}: {100 * (p - q):.2f} points less, where chance gives "
            f"{100 * chance:.2f}. This is over-fitting, or {name} has rows of another kind; see Drift."
        )
    trend = "the last epoch lowered its loss by little or nothing" if epochs > 1 else "one epoch shows no trend"
    return f"Rows of {name} ({q:.2%} right) do as well as those of train ({p:.2%}), so no over-fitting; {trend}."
