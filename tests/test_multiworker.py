"""Two workers as processes of this machine, talking over real sockets."""

import contextlib
import itertools
import json
import os
import signal
import socket

import numpy as np
import pytest

from tests.helpers import faults
from tests.helpers.datasets import bars, write_dataset, write_digits
from tests.helpers.small_run import TINY, SmallRun
from tests.helpers.workers import launch_workers, run_workers, start_workers


def worker(*arguments):
    return ["-m", "tests.helpers.worker", *map(str, arguments)]


def events(lines, name):
    return [{k: v for k, v in line.items() if k not in ("event", "text")} for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("workers") / "run"
    return launch_workers(2, run_dir.parent / "logs", *worker(digits, run_dir)), run_dir


def test_workers_end_with_the_same_weights_and_audit_the_epochs_of_all(trained):
    printed, _ = trained
    ends = [events(lines, "ended")[0] for lines in printed]
    assert [end["worker"] for end in ends] == [0, 1]
    assert ends[0]["weights"] == ends[1]["weights"]
    for lines in printed:
        assert events(lines, "audit") == [{"epoch": epoch, "complete": True, "examples": 203} for epoch in (1, 2)]


STREAM = {"feed": "stream", "memory_budget": 6_000_000, "batch_size": 400, "steps_per_call": 2}
STREAM["schedule"] = "constant"  # so that another number of epochs is the same run


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """12,000 rows in 40 pages, streamed for an epoch to two workers that get their cluster from SLURM's variables."""
    folder = tmp_path_factory.mktemp("streamed")
    data = write_dataset(folder / "data", {"train": (*bars(range(12_000), 28), np.arange(12_000))}, shards=4)
    job = next(job for job in itertools.count(os.getpid()) if _are_free(job))
    step = {"SLURM_JOB_ID": job, "SLURM_STEP_NUM_TASKS": 2, "SLURM_STEP_NODELIST": "localhost", "SLURM_NODEID": 0}
    tasks = [{**step, "SLURM_STEP_TASKS_PER_NODE": 2, "SLURM_PROCID": k, "SLURM_LOCALID": k} for k in range(2)]
    command = worker(data, folder / "run", json.dumps({**STREAM, "epochs": 1}))
    return run_workers(command, command, variables=tasks), data, folder / "run"


def test_tasks_of_a_slurm_step_train_together(streamed):
    ends = [events(lines, "ended")[0] for lines in streamed[0]]
    assert [end["worker"] for end in ends] == [0, 1]
    assert ends[0]["weights"] == ends[1]["weights"]


def test_each_worker_streams_its_share_and_every_example_is_seen_once(streamed):
    for lines in streamed[0]:
        assert events(lines, "audit") == [{"epoch": 1, "complete": True, "examples": 12_000}]
        # Half of 40 pages, and one per window of 1,600 rows, in which a share begins or ends.
        assert 20 <= events(lines, "read")[0]["pages"] <= 20 + 4


def test_a_stream_resumes_on_fewer_workers_between_epochs(streamed):
    _, data, run_dir = streamed
    run = SmallRun(data, run_dir, strategy="one", epochs=2, **STREAM)
    run.fit()
    assert run.events("resumed") == [{"epoch": 2, "step": 0, "global_step": 30}]
    assert run.events("audit") == [{"epoch": 2, "complete": True, "examples": 12_000}]


def _are_free(job: int) -> bool:
    """Whether both ports that two tasks of this SLURM job would get can be bound."""
    with contextlib.ExitStack() as stack:
        try:
            for port in (20_000 + job % 1000 * 10, 20_001 + job % 1000 * 10):
                stack.enter_context(socket.create_server(("localhost", port)))
        except OSError:
            return False
        return True


def test_workers_go_back_together(digits, tmp_path):
    settings = {"learning_rate": 1e19, "schedule": "constant", "recover": 30, "checkpoint_every": 1}
    printed = run_workers(*[worker(digits, tmp_path, json.dumps({**settings, "steps_per_call": 1}))] * 2)
    recoveries = [events(lines, "recovery") for lines in printed]
    assert recoveries[0] == recoveries[1]
    assert recoveries[0][0] == {"epoch": 1, "step": 0, "global_step": 0, "recovery": 1, "rate_factor": 0.5}
    assert len({events(lines, "ended")[0]["weights"] for lines in printed}) == 1


def test_killed_chief_ends_all_workers_and_they_resume_together(trained, digits, tmp_path):
    with start_workers(*[worker(digits, tmp_path, json.dumps({"die_after": 8, "checkpoint_every": 4}))] * 2) as workers:
        codes = [process.wait() for process in workers]
        assert codes == [-signal.SIGKILL, 75], [process.err[-2000:] for process in workers]
    expected = "error: worker 0 ended or cannot be reached, so this one (1 of 2) ends too; start the same command on ev"
    assert workers[1].err.splitlines()[-1].startswith(expected)
    printed = run_workers(*[worker(digits, tmp_path)] * 2)
    for lines, whole in zip(printed, trained[0], strict=True):
        assert events(lines, "resumed") == [{"epoch": 1, "step": 8, "global_step": 8}]
        assert events(lines, "ended") == events(whole, "ended")


def test_two_workers_train_what_one_machine_with_two_replicas_does(trained, digits, tmp_path):
    _, run_dir = trained
    single = SmallRun(digits, tmp_path, strategy="mirrored", devices=2, epochs=2)
    single.fit()
    restored = SmallRun(digits, run_dir, epochs=2)
    restored.store.restore_newest(restored.model, restored.optimizer)
    for ours, theirs in zip(single.model.get_weights(), restored.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def refused(*argument_lists):
    """The last line that each of two workers of train.py printed; both must end with exit code 2."""
    commands = [[faults.ROOT / "train.py", "--model", TINY, "--augment", "none", *argv] for argv in argument_lists]
    with start_workers(*commands) as workers:
        codes = [process.wait() for process in workers]
        assert codes == [2, 2], [process.err[-2000:] for process in workers]
        return [process.err.splitlines()[-1] for process in workers]


def test_workers_with_other_settings_or_data_are_refused_by_all(digits, tmp_path):
    other = write_digits(tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["name"] == "other"  # so another hash of the data
    lines = refused(
        ["--data", digits, "--run-dir", tmp_path / "run", "--learning-rate", "0.1", "--patience", "3"],
        ["--data", other, "--run-dir", tmp_path / "run", "--learning-rate", "0.2", "--audit"],
    )
    for line in lines:
        assert line.startswith("error: the workers disagree: "), line
        assert "learning_rate is 0.1 on worker 0, 0.2 on worker 1; " in line
        assert "patience is 3 on worker 0, None on worker 1; " in line
        assert "audit is False on worker 0, True on worker 1; " in line
        assert "data is '" in line
        assert line.endswith("start all with the same settings")
    assert not (tmp_path / "run").exists()


def test_workers_with_run_directories_of_their_own_are_refused_by_all(digits, tmp_path):
    for line in refused(*(["--data", digits, "--run-dir", tmp_path / name] for name in "ab")):
        assert line.startswith("error: the workers disagree: "), line
        assert line.endswith("--run-dir must be one directory that all workers share")


def test_a_run_directory_that_the_chief_cannot_claim_is_refused_by_all(digits, tmp_path):
    (tmp_path / "thesis.tex").touch()
    lines = refused(*(["--data", digits, "--run-dir", tmp_path] for _ in range(2)))
    assert set(lines) == {f"error: {tmp_path}: exists but is not a run directory; choose another --run-dir"}
