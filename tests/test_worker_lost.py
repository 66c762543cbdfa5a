"""train.py on two workers, processes that talk over real sockets: one is killed, and they start again together."""

import contextlib
import json
import os
import pathlib
import sys

from tests.helpers import faults
from tests.helpers.commands import WatchedCommand
from tests.test_multiworker import free_ports
from tools.prove_resume import differences, newest_step

SETTINGS = {"epochs": 20, "batch_size": 32, "learning_rate": 0.01, "precision": "float32", "checkpoint_every": 3}


@contextlib.contextmanager
def two_workers(digits: pathlib.Path, run_dir: pathlib.Path):
    """Both processes of one training; the chief is the first."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    flags = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, faults.ROOT / "train.py", "--data", digits, "--run-dir", run_dir, "--audit", *flags]
    with contextlib.ExitStack() as stack:
        workers = []
        for index in range(2):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
            workers.append(stack.enter_context(WatchedCommand(command, env=environment)))
        yield workers


def train_together(digits, run_dir):
    with two_workers(digits, run_dir) as workers:
        for worker in workers:
            assert worker.wait() == 0, worker.err


def test_where_one_is_killed_all_end_and_start_again_together(digits, tmp_path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    train_together(digits, whole)
    with two_workers(digits, run_dir) as (chief, other):
        assert chief.wait_until(lambda: newest_step(run_dir) >= 3), chief.err
        chief.kill()  # it holds the lock, and is where workers find each other
        assert other.wait() == 75, other.err
    expected = "error: worker 0 ended or cannot be reached, so this one (1 of 2) ends too; the same command on every"
    assert other.err.splitlines()[-1].startswith(expected)
    train_together(digits, run_dir)
    assert differences(run_dir, whole) == []
