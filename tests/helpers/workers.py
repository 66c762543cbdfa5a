"""Workers of one training as processes of this machine, talking over real sockets."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tests.helpers.commands import WatchedCommand, free_ports


@contextlib.contextmanager
def start_workers(*commands: Sequence[str | pathlib.Path]) -> Iterator[list[WatchedCommand]]:
    """Start a Python command per worker; the chief is the first. None is left running after the block."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(commands))]
    with contextlib.ExitStack() as stack:
        workers = []
        for index, command in enumerate(commands):
            config: dict[str, Any] = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
            workers.append(stack.enter_context(WatchedCommand([sys.executable, *command], env=environment)))
        yield workers


def run_workers(*commands: Sequence[str | pathlib.Path]) -> list[list[dict[str, Any]]]:
    """The JSON lines that each worker printed; a failed or hanging one fails the test with its errors."""
    with start_workers(*commands) as workers:
        for worker in workers:
            assert worker.wait() == 0, worker.err[-3000:]
        return [[json.loads(line) for line in worker.lines] for worker in workers]
