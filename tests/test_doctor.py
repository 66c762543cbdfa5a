import subprocess
import sys

import pytest

from pipeline.errors import InputError
from tests.helpers import faults
from tools import doctor
from tools.doctor import Check


def test_the_command_checks_everything_and_leaves_nothing_behind(tmp_path):
    command = [sys.executable, faults.ROOT / "tools/doctor.py", "--data-dir", "d/e", "--run-dir", "r"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    table, summary = done.stdout.split("\n\n")
    names = [line.split()[0] for line in table.splitlines()]
    assert names == ["memory", "data", "runs", "temporary", "versions", "devices", "CUDA"], done.stderr
    # The package itself need not be installed where its tests run.
    to_fix = [line for line in summary.splitlines() if line.startswith("1. ") and "versions" not in line]
    assert to_fix == [] and done.returncode == int(summary != "nothing to fix\n")
    assert list(tmp_path.iterdir()) == []


def test_little_memory_is_to_fix():
    assert doctor.check_memory(1 << 30) == Check("memory", "1.0 GiB free", "free 2 GiB for training")
    assert doctor.check_memory(8 << 30) == Check("memory", "8.0 GiB free")


def test_a_folder_is_checked_at_its_closest_parent(tmp_path):
    check = doctor.check_folder("data", tmp_path / "not" / "yet")
    assert check.text.startswith(f"{tmp_path}: ") and check.text.endswith("GiB free") and not check.fix
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").write_text("")
    check = doctor.check_folder("data", tmp_path / "data")
    assert check.text == f"{tmp_path / 'data'}: Not a directory" and check.fix


def test_a_full_disk_is_to_fix(tmp_path):
    code = "import pathlib; from tools.doctor import *; print(check_folder('runs', pathlib.Path('runs')))"
    with faults.full_disk(tmp_path, 1 << 19) as disk:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(faults.ROOT)!r}); {code}"]
        printed = faults.run(command, cwd=disk.path, **disk.options).out
        assert list(disk.path.iterdir()) == []
    assert f"text='{disk.path}: {disk.full}', fix='allow" in printed


def test_a_missing_temporary_directory_is_to_fix(monkeypatch):
    def fail():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(doctor.tempfile, "gettempdir", fail)
    assert doctor.check_temporary_directory().fix == "set TMPDIR to a directory that can be written"


def test_versions_outside_the_required_ranges_are_to_fix(tmp_path, monkeypatch):
    info = tmp_path / "oddly_pinned-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: oddly-pinned\nVersion: 1.0\nRequires-Python: >=3.90\n"
        "Requires-Dist: numpy<1.0\nRequires-Dist: rich\nRequires-Dist: no-such-package\n"
        "Requires-Dist: nor-this; extra == 'more'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor.check_versions("oddly-pinned")
    assert "needed >=3.90; numpy " in check.text and check.fix
    assert check.text.endswith("needed <1.0; no-such-package missing, needed any")
    assert doctor.check_versions("not-installed-at-all").text == "not-installed-at-all is not installed"


def test_a_tensorflow_that_does_not_start_is_to_fix(tmp_path, monkeypatch, capsys):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    (tmp_path / "keras.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "does not start or compute (ImportError: libcudart.so.12: cannot open)" in out
    assert "TensorFlow: python -m pip install -e ., or reboot" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("gpus", "driver", "visible", "text", "to_fix"),
    [
        ([], "", None, "no GPU; training runs on the processor", False),
        (["NVIDIA H100"], "NVIDIA driver 550", None, "NVIDIA H100; NVIDIA driver 550", False),
        ([], "NVIDIA driver 550", None, "NVIDIA driver 550 found, but TensorFlow detects no GPU", True),
        ([], "NVIDIA driver 550", "-1", "NVIDIA driver 550, hidden by CUDA_VISIBLE_DEVICES=-1", False),
        ([], "nvidia-smi failed: no devices", None, "nvidia-smi failed: no devices", True),
    ],
)
def test_devices(gpus, driver, visible, text, to_fix):
    check = doctor.check_devices(gpus, driver, visible)
    assert (check.text, bool(check.fix)) == (text, to_fix)


def test_capability_and_missing_libraries_are_named():
    ok = doctor.check_devices(["NVIDIA H100"], "NVIDIA driver 580", None, [[9, 0]])
    assert ok == Check("devices", "NVIDIA H100 (compute capability 9.0); NVIDIA driver 580")
    assert "6.0" in doctor.check_devices(["NVIDIA K80"], "NVIDIA driver 450", None, [[3, 7]]).fix
    check = doctor.check_devices([], "NVIDIA driver 580", None, (), ["libcudnn.so.9"])
    assert check.text.endswith("no GPU; not found: libcudnn.so.9") and "'.[cuda]'" in check.fix
    check = doctor.check_devices([], "NVIDIA driver 580", None, (), ["libnvidia-ml.so.1"])
    assert "LD_LIBRARY_PATH" in check.fix


def test_libraries_that_cannot_be_opened_are_listed(monkeypatch):
    monkeypatch.setattr(doctor, "_DRIVER_LIBRARIES", ("libc.so.6", "libabsent.so.1"))
    monkeypatch.setattr(doctor, "_CUDA_LIBRARIES", ())
    assert doctor.missing_libraries() == ["libabsent.so.1"]


def test_the_extra_for_cuda_is_to_fix_only_with_a_driver(monkeypatch):
    required = [
        "numpy>=1",
        *(f"{name}; extra == 'and-cuda'" for name in ("nvidia-cudnn-cu12>=9.3", "nvidia-nccl-cu12<3")),
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: required)
    versions = {"nvidia-cudnn-cu12": "9.1", "numpy": "2.0", "tensorflow": "2.21"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    assert not doctor.check_cuda_packages(False).fix
    check = doctor.check_cuda_packages(True)
    assert check.fix.endswith("'.[cuda]'") and check.text == (
        "cuDNN 9.1; '.[cuda]' lacks nvidia-nccl-cu12, nvidia-ml-py, nvidia-cudnn-cu12 >=9.3 (found 9.1)"
    )
    versions.update({"nvidia-cudnn-cu12": "9.4", "nvidia-nccl-cu12": "2.2", "nvidia-ml-py": "13"})
    assert doctor.check_cuda_packages(True) == Check("CUDA packages", "cuDNN 9.4; all 3 packages of '.[cuda]'")
    del versions["tensorflow"]
    assert not doctor.check_cuda_packages(True).fix


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo '550.54, NVIDIA H100, 81559 MiB'", "NVIDIA driver 550.54, NVIDIA H100, 81559 MiB"),
        ("echo 'No devices were found'; exit 6", "nvidia-smi failed: No devices were found"),
        ("exit 9", "nvidia-smi failed: no reason given"),
        ("sleep 9", "nvidia-smi failed: no answer in 0.5 s"),
    ],
)
def test_the_nvidia_driver_is_queried(tmp_path, monkeypatch, script, text):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec /bin/sleep')}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_DRIVER_SECONDS", 0.5)
    assert doctor.nvidia_driver() == text


def test_bad_arguments_are_an_input_error():
    with pytest.raises(InputError):
        doctor.main(["--nothing"])
