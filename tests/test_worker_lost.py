"""train.py on two workers, processes that talk over real sockets: one is killed, and they start again together."""

from tests.helpers import faults
from tests.helpers.workers import start_workers
from tools.prove_resume import differences, newest_step

SETTINGS = ["--epochs", "20", "--batch-size", "32", "--learning-rate", "0.01", "--precision", "float32"]
SETTINGS += ["--checkpoint-every", "3", "--audit"]


def two_workers(digits, run_dir):
    return start_workers(*[[faults.ROOT / "train.py", "--data", digits, "--run-dir", run_dir, *SETTINGS]] * 2)


def train_together(digits, run_dir):
    with two_workers(digits, run_dir) as workers:
        for worker in workers:
            assert worker.wait() == 0, worker.err


def test_if_one_is_killed_all_end_and_resume_together(digits, tmp_path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    train_together(digits, whole)
    with two_workers(digits, run_dir) as (chief, other):
        assert chief.wait_until(lambda: newest_step(run_dir) >= 3), chief.err
        chief.kill()  # it holds the lock, and is where workers find each other
        assert other.wait() == 75, other.err
    expected = "error: worker 0 ended or cannot be reached, so this one (1 of 2) ends too; start the same command on ev"
    assert other.err.splitlines()[-1].startswith(expected)
    train_together(digits, run_dir)
    assert differences(run_dir, whole) == []
