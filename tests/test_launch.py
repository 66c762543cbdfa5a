import json
import signal
import sys

import pytest

from pipeline.errors import InputError
from tests.helpers.commands import ROOT, WatchedCommand
from tools import launch

BEGIN = """
import json, os, pathlib, signal, sys
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def stay():
    while True:
        signal.pause()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run Python code as several workers; returns the exit code and the workers' logs."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def run(code, workers=2, grace=0.5):
        options = ["--workers", str(workers), "--log-dir", str(tmp_path / "logs"), "--grace", str(grace)]
        result = launch.main([*options, "--", sys.executable, "-c", BEGIN + code])
        return result, [path.read_text() for path in sorted((tmp_path / "logs").iterdir())]

    return run


def test_workers_get_one_cluster_and_a_place_in_it_each(run, capsys):
    code, logs = run("print(os.environ['TF_CONFIG']); print('oh', file=sys.stderr)", workers=3)
    configs = [json.loads(log.splitlines()[0]) for log in logs]
    assert code == 0
    assert [config["task"] for config in configs] == [{"type": "worker", "index": k} for k in range(3)]
    assert configs[0]["cluster"] == configs[1]["cluster"] == configs[2]["cluster"]
    assert len(set(configs[0]["cluster"]["worker"])) == 3
    assert all("oh\n" in log for log in logs)
    shown = capsys.readouterr().out.splitlines()
    assert sorted(shown) == sorted(f"[0] {line}" for line in logs[0].splitlines())


def test_a_failing_worker_ends_the_others_and_its_exit_code_is_passed_on(run, capsys, tmp_path):
    code, _ = run("print('why', flush=True) or sys.exit(3) if index == 1 else stay()", workers=3)
    assert code == 3
    assert capsys.readouterr().err == f"worker 1 ended with exit code 3: why ({tmp_path / 'logs/worker-1.log'})\n"


def test_a_killed_worker_is_a_lost_one(run, capsys):
    code, _ = run("os.kill(os.getpid(), signal.SIGKILL) if index == 1 else stay()")
    assert code == 75
    assert capsys.readouterr().err.startswith("worker 1 was killed by SIGKILL")


@pytest.mark.parametrize("first", [0, 1])
def test_an_error_counts_before_the_loss_that_others_report(run, tmp_path, first):
    ready = str(tmp_path / "ready")
    lost = f"    while not os.path.exists({ready!r}): pass\n    sys.exit(75)\n"
    error = f"    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))\n    open({ready!r}, 'w').close()\n    stay()\n"
    assert run(f"if index == {first}:\n{lost}else:\n{error}", grace=1.0)[0] == 2


def test_a_worker_that_ignores_the_request_to_end_is_killed(run, tmp_path):
    ready = str(tmp_path / "ready")
    fails = f"    while not os.path.exists({ready!r}): pass\n    sys.exit(4)\n"
    ignores = f"    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    open({ready!r}, 'w').close()\n    stay()\n"
    assert run(f"if index:\n{fails}else:\n{ignores}", grace=0.1)[0] == 4


def test_ctrl_c_reaches_every_worker_once_and_all_end_cleanly(tmp_path):
    code = BEGIN + (
        "signal.signal(signal.SIGINT, lambda *_: print('saved', flush=True) or sys.exit(130))\n"
        f"pathlib.Path({str(tmp_path)!r}, f'ready-{{index}}').touch(); stay()"
    )
    command = ["tools/launch.py", "--workers", 2, "--log-dir", tmp_path, "--", sys.executable, "-c", code]
    with WatchedCommand([sys.executable, *command], cwd=ROOT) as launched:
        assert launched.wait_until(lambda: len(list(tmp_path.glob("ready-*"))) == 2), launched.err
        launched.send(signal.SIGINT)
        assert launched.wait() == 130
    assert [(tmp_path / f"worker-{k}.log").read_text() for k in range(2)] == ["saved\n"] * 2


def test_gpus_are_dealt_out_evenly(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5,7")
    shares = [environment["CUDA_VISIBLE_DEVICES"] for environment in launch.worker_environments(2)]
    assert shares == ["0,2", "5,7"]
    with pytest.raises(InputError, match="--workers 3: 4 GPUs do not divide among them"):
        launch.worker_environments(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0", "--", "true"], "--workers 0: use 1 to 64"),
        (["--workers", "2", "--"], "required: COMMAND"),
        (["--workers", "2", "--", "./no-such-program"], "./no-such-program: cannot be run"),
    ],
)
def test_what_cannot_be_started_is_refused(monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match=message):
        launch.main(arguments)


def test_a_worker_of_a_cluster_is_not_launched_again(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(InputError, match="TF_CONFIG is set, so this is one worker of a cluster"):
        launch.main(["--workers", "2", "--", "true"])
