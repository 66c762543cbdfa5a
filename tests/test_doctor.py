import json
import pathlib
import resource
import subprocess
import sys

import keras
import pytest

from pipeline.doctor import installation, machine
from pipeline.doctor.canaries import CANARIES
from pipeline.doctor.findings import MEND, NOTE, OK, Finding, print_findings, to_json
from pipeline.doctor.traps import SEVERAL_WORKERS, TRAPS, judge, run_canaries
from pipeline.errors import InputError
from tests.helpers import faults
from tools import doctor


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """What the whole command finds here, and the folder that it was told to look at."""
    folder = tmp_path_factory.mktemp("examined")
    command = [sys.executable, faults.ROOT / "tools/doctor.py", "--data-dir", "d/e", "--run-dir", "r", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, json.loads(done.stdout), folder


def test_the_command_finds_this_machine_healthy_and_leaves_nothing_behind(examined):
    code, found, folder = examined
    assert (code, found["healthy"]) == (0, True), [each for each in found["findings"] if each["state"] == MEND]
    assert {"processor", "memory", "data (d/e)", "runs (r)", "versions", "accelerators", "precision"} <= {
        each["name"] for each in found["findings"]
    }
    assert list(folder.iterdir()) == []


def test_every_trap_has_a_canary_and_a_shim_that_exists(examined):
    assert {trap.canary for trap in TRAPS} == {*CANARIES, SEVERAL_WORKERS}
    assert all((faults.ROOT / trap.shim).is_file() for trap in TRAPS)
    names = [each["name"] for each in examined[1]["findings"]]
    assert [name for name in names if name in {trap.name for trap in TRAPS}] == [trap.name for trap in TRAPS]


@pytest.mark.skipif(not keras.__version__.startswith("3.15."), reason="another Keras may have mended some of them")
def test_every_trap_is_still_there(examined):
    # When this fails a trap is gone from the pinned versions, and what works around it can go.
    seen = {each["name"]: each["seen"] for each in examined[1]["findings"]}
    assert [trap.name for trap in TRAPS if not seen[trap.name].startswith("still there")] == []


TRAP = TRAPS[0]


@pytest.mark.parametrize(
    ("outcome", "state", "seen"),
    [
        ({"bites": True, "seen": "12 steps"}, OK, "still there: 12 steps"),
        ({"bites": False, "seen": "10 steps"}, NOTE, "gone, so its shim may go: 10 steps"),
        ({"failed": "TypeError: x"}, MEND, "its canary failed: TypeError: x"),
    ],
)
def test_an_outcome_is_judged(outcome, state, seen):
    found = judge(TRAP, outcome)
    assert (found.state, found.seen, found.shim) == (state, seen, TRAP.shim)
    assert bool(found.mend) == (state == MEND)


def test_a_canary_that_ends_its_process_does_not_hide_the_others(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{faults.ROOT}")
    assert run_canaries(["loss_scale", "overshoot"]) == {
        name: {"failed": "exit code 7: it said nothing"} for name in ("loss_scale", "overshoot")
    }


def test_a_canary_that_raises_says_what(tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text("raise ImportError('no such keras')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{faults.ROOT}")
    assert run_canaries(["overshoot"])["overshoot"]["failed"] == "ImportError: no such keras"


def test_little_memory_and_few_open_files_are_to_mend():
    assert machine.check_memory(1 << 30).state == MEND
    assert machine.check_memory(8 << 30) == Finding("Machine", "memory", OK, "8.0 GiB free")
    assert machine.check_open_files(64).mend == "ulimit -n 1024"
    assert machine.check_open_files(1024).state == machine.check_open_files(resource.RLIM_INFINITY).state == OK


def test_a_folder_that_can_be_written_is_measured_and_left_as_it_was(tmp_path):
    found = machine.check_folder("data", tmp_path / "not" / "yet")
    assert found.state != MEND
    assert all(word in found.seen for word in ("GiB free", "writes", "reads", "MB/s"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_to_mend(tmp_path):
    (tmp_path / "data").write_text("")
    found = machine.check_folder("data", tmp_path / "data")
    assert (found.state, found.seen) == (MEND, f"{tmp_path / 'data'}: Not a directory")


def test_a_full_disk_is_to_mend(tmp_path):
    code = "from pipeline.doctor.machine import *; print(check_folder('runs', pathlib.Path('runs')))"
    with faults.full_disk(tmp_path, 1 << 20) as disk:
        found = faults.run([sys.executable, "-c", code], cwd=disk.path, **disk.options).out
        assert list(disk.path.iterdir()) == []
    assert f"state='mend', seen='{disk.path}: {disk.full}'" in found


@pytest.mark.parametrize(
    ("name", "value", "state"),
    [
        ("KERAS_BACKEND", "jax", MEND),
        ("TF_ENABLE_ONEDNN_OPTS", "0", NOTE),
        ("CUDA_VISIBLE_DEVICES", "1", NOTE),
    ],
)
def test_variables_that_matter_are_said(name, value, state):
    (found,) = machine.check_environment({name: value, "HOME": "/"})
    assert (found.name, found.state) == (f"environment: {name}", state)


def test_variables_that_do_not_matter_are_not():
    assert machine.check_environment({"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"}) == []


def test_versions_that_are_not_as_stated_are_to_mend(tmp_path, monkeypatch):
    info = tmp_path / "oddly_pinned-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: oddly-pinned\nVersion: 1.0\nRequires-Python: >=3.90\n"
        "Requires-Dist: numpy<1.0\nRequires-Dist: rich\nRequires-Dist: no-such-package\n"
        "Requires-Dist: nor-this; extra == 'more'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = installation.check_versions("oddly-pinned")
    assert found.state == MEND
    assert "needed >=3.90; numpy " in found.seen
    assert found.seen.endswith("needed <1.0; no-such-package missing, needed any")
    assert installation.check_versions("not-installed-at-all").seen == "not-installed-at-all is not installed"


def test_a_tensorflow_that_does_not_start_is_to_mend(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{faults.ROOT}")
    (found,) = installation.check_tensorflow(*installation.probe_tensorflow())
    assert found.state == MEND
    assert found.seen.startswith("does not start (ImportError: libcudart.so.12: cannot open; exit code 1)")


GPU = {"name": "NVIDIA H100", "capability": "9.0"}


@pytest.mark.parametrize(
    ("gpus", "computes", "driver", "state", "text"),
    [
        ([], [], "", OK, "no GPU; training runs on the processor"),
        ([GPU], [True], "NVIDIA driver 550", OK, "NVIDIA H100 (capability 9.0); NVIDIA driver 550"),
        ([GPU, GPU], [True], "NVIDIA driver 550", MEND, "2 GPU(s), not all of which compute"),
        ([GPU], [False], "NVIDIA driver 550", MEND, "1 GPU(s), not all of which compute"),
        ([], [], "NVIDIA driver 550", MEND, "NVIDIA driver 550, but TensorFlow sees no GPU"),
        ([], [], "nvidia-smi failed: no devices", MEND, "nvidia-smi failed: no devices"),
    ],
    ids=["none", "one", "one of two fails", "computes wrongly", "not seen by TensorFlow", "a driver that is broken"],
)
def test_accelerators_are_judged(monkeypatch, gpus, computes, driver, state, text):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = installation.check_devices(gpus, computes, driver, "an Error: no kernel image")
    assert (found.state, found.seen) == (state, text)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo 'NVIDIA H100, 550.54, 81559 MiB'", "NVIDIA driver 550.54: NVIDIA H100 with 81559 MiB"),
        ("echo 'No devices were found'; exit 6", "nvidia-smi failed: No devices were found"),
        ("exit 9", "nvidia-smi failed: no reason given"),
    ],
)
def test_the_driver_is_asked(tmp_path, monkeypatch, script, text):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installation.nvidia_driver() == text


@pytest.mark.parametrize(
    ("on", "has_avx512", "state", "text"),
    [
        (True, True, OK, "on by itself"),
        (False, False, OK, "switches it on"),
        (True, False, NOTE, "does for that may go"),
    ],
)
def test_onednn_is_judged(on, has_avx512, state, text):
    found = installation.check_onednn(on, has_avx512, "x86_64")
    assert found.state == state
    assert text in found.seen


def test_what_is_to_mend_is_printed_last_and_numbered(capsys):
    findings = [
        Finding("Machine", "memory", OK, "8.0 GiB free"),
        Finding("Machine", "runs", MEND, "full", "make room"),
        Finding("Traps", TRAP.name, OK, "still there", shim=TRAP.shim),
    ]
    print_findings(findings)
    out = capsys.readouterr().out
    assert out.endswith("1 to mend\n1. runs: make room\n")
    assert TRAP.shim in out
    assert json.loads(to_json(findings))["healthy"] is False
    print_findings(findings[:1])
    assert capsys.readouterr().out.endswith("nothing to mend\n")


def test_something_to_mend_is_exit_code_1(tmp_path, monkeypatch, capsys):
    # A TensorFlow that fails at once makes the command quick, and is something to mend.
    (tmp_path / "tensorflow.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{faults.ROOT}")
    monkeypatch.chdir(tmp_path)
    assert doctor.main([]) == 1
    assert "TensorFlow: python -m pip install -e ., then try again" in capsys.readouterr().out


def test_bad_arguments_are_an_input_error():
    with pytest.raises(InputError):
        doctor.main(["--nothing"])


def test_defaults_are_where_data_and_runs_go_by_themselves():
    args = doctor._parser().parse_args([])
    assert (args.data_dir, args.run_dir) == (pathlib.Path("data"), pathlib.Path("runs"))
