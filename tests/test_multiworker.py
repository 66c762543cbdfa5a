"""Two workers as processes of this machine, talking over real sockets."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.small_run import SmallRun


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_workers(command: list[str], count: int = 2) -> list[subprocess.Popen]:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    workers = []
    for index in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen([sys.executable, *command], env=environment, **pipes))
    return workers


def outputs(workers: list[subprocess.Popen], timeout: float = 240) -> list[str]:
    """What each worker printed; a failed or hanging one fails the test with what it said."""
    found = []
    try:
        for worker in workers:
            out, err = worker.communicate(timeout=timeout)
            assert worker.returncode == 0, err[-3000:]
            found.append(out)
    finally:
        for worker in workers:
            worker.kill()
    return found


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("workers")
    return outputs(start_workers(["-m", "tests.helpers.worker", str(digits), str(run_dir)])), run_dir


def test_workers_end_with_the_same_weights(trained):
    printed, _ = trained
    names, hashes = zip(*(text.strip().splitlines()[-1].split(": ") for text in printed), strict=True)
    assert names == ("worker 0 of 2", "worker 1 of 2")
    assert hashes[0] == hashes[1]


def test_every_worker_audits_the_epochs_of_all(trained):
    printed, _ = trained
    for text in printed:
        audits = [line for line in text.splitlines() if line.startswith("audit")]
        assert audits == [f"audit of epoch {epoch}: 203 of 203 examples, each once" for epoch in (1, 2)]


def test_workers_go_back_together(digits, tmp_path):
    settings = {"learning_rate": 1e19, "schedule": "constant", "recover": 30, "checkpoint_every": 1}
    command = ["-m", "tests.helpers.worker", str(digits), str(tmp_path), json.dumps({**settings, "steps_per_call": 1})]
    printed = [text.strip().splitlines() for text in outputs(start_workers(command))]
    recoveries = [[line.split("; going back ")[1] for line in lines if "going back" in line] for lines in printed]
    assert recoveries[0] == recoveries[1]
    assert recoveries[0][0] == "to epoch 1, step 0 with the learning rate times 0.5 (recovery 1 of 30)"
    assert len({lines[-1].split(": ")[1] for lines in printed}) == 1


def test_two_workers_train_what_one_machine_with_two_replicas_does(trained, monkeypatch, digits, tmp_path):
    _, run_dir = trained
    single = SmallRun(monkeypatch, digits, tmp_path, strategy="mirrored", devices=2, epochs=2)
    single.fit()
    restored = SmallRun(monkeypatch, digits, run_dir, epochs=2)
    restored.store.restore_newest(restored.model, restored.optimizer)
    for ours, theirs in zip(single.model.get_weights(), restored.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
