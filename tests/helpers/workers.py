"""Workers of one training as processes of this machine, talking over real sockets."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.train.cluster import free_ports, tf_config
from tests.helpers.commands import ROOT, WatchedCommand


@contextlib.contextmanager
def start_workers(
    *commands: Sequence[str | pathlib.Path], variables: Sequence[Mapping[str, Any]] = ()
) -> Iterator[list[WatchedCommand]]:
    """Start a Python command per worker; the chief is the first. None is left running after the block.

    `variables` are environment variables of each worker, in place of TF_CONFIG.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(commands))]
    with contextlib.ExitStack() as stack:
        workers = []
        for index, command in enumerate(commands):
            own = variables[index] if variables else {"TF_CONFIG": tf_config(addresses, index)}
            environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
            workers.append(stack.enter_context(WatchedCommand([sys.executable, *command], env=environment)))
        yield workers


def run_workers(
    *commands: Sequence[str | pathlib.Path], variables: Sequence[Mapping[str, Any]] = ()
) -> list[list[dict[str, Any]]]:
    """The JSON lines that each worker printed; a failed or hanging one fails the test with its errors."""
    with start_workers(*commands, variables=variables) as workers:
        for worker in workers:
            assert worker.wait() == 0, worker.err[-3000:]
        return [[json.loads(line) for line in worker.lines] for worker in workers]


def launch_workers(count: int, log_dir: pathlib.Path, *command: str | pathlib.Path) -> list[list[dict[str, Any]]]:
    """The same for one Python command that tools/launch.py starts `count` times."""
    launcher = [sys.executable, ROOT / "tools/launch.py", "--workers", count, "--log-dir", log_dir, "--"]
    with WatchedCommand([*launcher, sys.executable, *command], cwd=ROOT) as launched:
        assert launched.wait() == 0, launched.out[-1000:] + launched.err[-3000:]
    logs = [(log_dir / f"worker-{worker}.log").read_text().splitlines() for worker in range(count)]
    return [[json.loads(line) for line in log if line.startswith("{")] for log in logs]
