"""The traps of TensorFlow and Keras that the package works around: which of them the installed versions still have."""

import contextlib
import dataclasses
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.doctor.findings import MEND, NOTE, OK, Finding
from pipeline.watched import WatchedCommand

GROUP = "Traps of TensorFlow and Keras"
SEVERAL_WORKERS = "several_workers"
_MAX_SECONDS = 300  # for a process of canaries; it computes for 15
_MORE_SECONDS = 15  # for a second worker once the first one is done


@dataclasses.dataclass(frozen=True)
class Trap:
    """A trap, the file that works around it, and the canary that falls into it."""

    name: str
    shim: str
    canary: str


TRAPS = (
    Trap("float16 overflow is looked for on the first replica only", "pipeline/train/loss_scale.py", "loss_scale"),
    Trap("fit() does not work on several workers", "pipeline/train/loop.py", SEVERAL_WORKERS),
    Trap("fit() with several steps a call fails on replicas", "pipeline/train/step.py", "several_steps_on_replicas"),
    Trap("fit() with several steps a call runs too many", "pipeline/feed/order.py", "overshoot"),
    Trap("BackupAndRestore repeats steps", "pipeline/train/checkpoint.py", "backup_and_restore"),
    Trap("Dropout draws the same mask on every replica", "models/dropout.py", "dropout_on_replicas"),
    Trap("Dropout's state is not saved with the weights", "models/dropout.py", "dropout_state_in_weights"),
    Trap("fit() under a strategy reads the data twice", "pipeline/train/feeder.py", "data_read_twice"),
    Trap("a replica without examples spoils BatchNormalization", "pipeline/feed/order.py", "empty_replica"),
    Trap("a damaged record loses those after it, or its file's name", "pipeline/feed/resident.py", "damaged_record"),
)


def check_traps(traps: Sequence[Trap] = TRAPS) -> list[Finding]:
    """Run every trap's canary, in processes of their own, and say which traps are still there."""
    alone = [trap.canary for trap in traps if trap.canary == SEVERAL_WORKERS]
    together = [trap.canary for trap in traps if trap.canary != SEVERAL_WORKERS]
    with ThreadPoolExecutor() as pool:
        several = pool.submit(run_workers) if alone else None
        found = run_canaries(together)
        if several is not None:
            found[SEVERAL_WORKERS] = several.result()
    return [judge(trap, found[trap.canary]) for trap in traps]


def judge(trap: Trap, outcome: dict[str, Any]) -> Finding:
    """The finding for what a canary reported: `bites` and `seen`, or how it `failed`."""
    if "failed" in outcome:
        mend = (
            "its canary ended in a way of its own, so nothing is known of it; install the versions that setup.cfg names"
        )
        return Finding(GROUP, trap.name, MEND, f"its canary failed: {outcome['failed']}", mend, trap.shim)
    if outcome["bites"]:
        return Finding(GROUP, trap.name, OK, f"still there: {outcome['seen']}", shim=trap.shim)
    return Finding(GROUP, trap.name, NOTE, f"gone, so its shim may go: {outcome['seen']}", shim=trap.shim)


def run_canaries(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Outcome of each canary; one that takes its process down with it says so, and the others run in a new one."""
    outcomes: dict[str, dict[str, Any]] = {}
    while waiting := [name for name in names if name not in outcomes]:
        with _python("pipeline.doctor.canaries", *waiting) as command:
            command.wait_at_most(_MAX_SECONDS)
        current = waiting[0]
        for event in _events(command):
            if "begun" in event:
                current = event["begun"]
            elif "ended" in event:
                outcomes[event["ended"]] = event
        if current not in outcomes:
            outcomes[current] = {"failed": _last_words(command)}
    return outcomes


def run_workers() -> dict[str, Any]:
    """Outcome of the canary of two workers, which are processes of this machine."""
    with contextlib.ExitStack() as stack:
        addresses = _free_addresses(2)
        workers = []
        for index in range(2):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            workers.append(stack.enter_context(_python("pipeline.doctor.multiworker", TF_CONFIG=json.dumps(config))))
        workers[0].wait_at_most(_MAX_SECONDS)
        workers[1].wait_at_most(workers[1].seconds + _MORE_SECONDS)  # it may wait for ever for one that failed
    outcomes = [event for worker in workers for event in _events(worker)]
    if not outcomes:
        return {"failed": _last_words(workers[0])}
    # It bites where it does on any worker.
    return max(outcomes, key=lambda outcome: outcome["bites"])


def _python(module: str, *arguments: str, **environment: str) -> WatchedCommand:
    base = {name: value for name, value in os.environ.items() if name not in ("TF_CONFIG", "KERAS_BACKEND")}
    # Canaries need two devices, which logical CPUs are everywhere.
    settings = {**base, "CUDA_VISIBLE_DEVICES": "-1", **environment}
    return WatchedCommand([sys.executable, "-m", module, *arguments], env=settings)


def _last_words(command: WatchedCommand) -> str:
    if command.killed:
        return f"it had not ended after {command.seconds:.0f} s"
    said = (command.err.strip().splitlines() or ["it said nothing"])[-1]
    return f"exit code {command.returncode}: {said}"


def _events(command: WatchedCommand) -> Iterator[dict[str, Any]]:
    for line in command.lines:
        with contextlib.suppress(ValueError):  # libraries print too
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _free_addresses(count: int) -> list[str]:
    """Addresses on this machine whose ports nothing listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
