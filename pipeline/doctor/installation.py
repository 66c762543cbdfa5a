"""What is installed: versions, and what TensorFlow and the NVIDIA driver see of the accelerators."""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.doctor.findings import MEND, NOTE, OK, Finding
from pipeline.train.environment import processor_flags
from pipeline.watched import WatchedCommand

GROUP = "Installation"
PACKAGE = "kannada-pipeline"
_INSTALL = "python -m pip install -e ."
_SMI_FAILED = "nvidia-smi failed"
_SMI_SECONDS = 20
_PROBE_SECONDS = 300  # it computes for 5
_ONEDNN_SAYS = "oneDNN custom operations are on"


def check_installation() -> list[Finding]:
    """All checks; TensorFlow is asked in a process of its own."""
    return [check_versions(), check_tensorboard(), *check_tensorflow(*probe_tensorflow())]


def check_versions(package: str = PACKAGE) -> Finding:
    """Whether Python and all that the package needs are in the range that it states."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        metadata = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(GROUP, "versions", MEND, f"{package} is not installed", _INSTALL)
    wrong, python = [], platform.python_version()
    if python not in SpecifierSet(metadata["Requires-Python"] or ""):
        wrong.append(f"Python {python}, needed {metadata['Requires-Python']}")
    needed = map(Requirement, importlib.metadata.requires(package) or ())
    needed = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    for each in needed:
        found = _version(each.name)
        if found is None or not each.specifier.contains(found, prereleases=True):
            wrong.append(f"{each.name} {found or 'missing'}, needed {each.specifier or 'any'}")
    if wrong:
        return Finding(GROUP, "versions", MEND, "; ".join(wrong), f"{_INSTALL} (in a new virtual environment)")
    main = ", ".join(f"{each.name} {_version(each.name)}" for each in needed[:3])
    return Finding(GROUP, "versions", OK, f"Python {python}, {main}: {len(needed)} packages as stated")


def check_tensorboard() -> Finding:
    """Whether --tensorboard can be used."""
    if importlib.util.find_spec("tensorboard") is None:
        seen = f"not installed with TensorFlow; --tensorboard needs {_INSTALL[:-1]}'.[tensorboard]'"
        return Finding(GROUP, "TensorBoard", NOTE, seen)
    return Finding(GROUP, "TensorBoard", OK, f"tensorboard {_version('tensorboard')}")


def probe_tensorflow() -> tuple[list[dict[str, Any]], str]:
    """What `pipeline.doctor.probe` printed, and its stderr."""
    ours = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL", "TF_CONFIG", "KERAS_BACKEND")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    with WatchedCommand([sys.executable, "-m", "pipeline.doctor.probe"], env=environment) as command:
        command.wait_at_most(_PROBE_SECONDS)  # a broken driver may never answer
    said = command.err if command.returncode == 0 else f"{command.err}\nexit code {command.returncode}"
    return [json.loads(line) for line in command.lines if line.startswith("{")], said


def check_tensorflow(printed: Sequence[dict[str, Any]], said: str) -> list[Finding]:
    """Whether TensorFlow starts, what it computes on, in which precision, and whether oneDNN is on by itself."""
    if not printed:
        last = [line.strip() for line in said.splitlines() if line.strip()][-2:]
        return [
            Finding(GROUP, "TensorFlow", MEND, f"does not start ({'; '.join(last)})", f"{_INSTALL}, then try again")
        ]
    found, gpus = printed[0], printed[1:]
    return [
        check_devices(found["gpus"], [gpu["computes"] for gpu in gpus], nvidia_driver(), said),
        Finding(GROUP, "precision", OK, f"--precision auto is {found['precision']}, the fastest that is native here"),
        check_onednn(_ONEDNN_SAYS in said, "avx512f" in processor_flags(), platform.machine()),
    ]


def check_devices(gpus: Sequence[dict], computes: Sequence[bool], driver: str, said: str) -> Finding:
    """Whether each GPU that the driver has is seen by TensorFlow and computes."""
    name = "accelerators"
    if len(computes) < len(gpus) or not all(computes):
        reason = next((line for line in reversed(said.splitlines()) if "rror" in line), "no reason given")
        mend = f"TensorFlow sees {len(gpus)} GPU(s), but computing failed: {reason.strip()}; reboot, or mend the driver"
        return Finding(GROUP, name, MEND, f"{len(gpus)} GPU(s), not all of which compute", mend)
    if gpus:
        each = ", ".join(f"{gpu['name']} (capability {gpu['capability'] or 'unknown'})" for gpu in gpus)
        return Finding(GROUP, name, OK, f"{each}; {driver or 'driver unknown'}")
    if driver.startswith(_SMI_FAILED):
        return Finding(GROUP, name, MEND, driver, "the NVIDIA driver does not answer: reboot, or install it again")
    if driver and os.environ.get("CUDA_VISIBLE_DEVICES") in (None, "all"):
        return Finding(
            GROUP, name, MEND, f"{driver}, but TensorFlow sees no GPU", f"{_INSTALL[:-1]}'.[cuda]', then try again"
        )
    return Finding(GROUP, name, OK, "no GPU; training runs on the processor")


def check_onednn(on: bool, has_avx512: bool, machine: str) -> Finding:
    """Whether TensorFlow leaves oneDNN off, so that the package must switch it on."""
    name, shim = "oneDNN", "pipeline/train/environment.py"
    if on and not has_avx512 and machine in ("x86_64", "AMD64"):
        return Finding(GROUP, name, NOTE, f"on without AVX-512 too; what {shim} does for that may go")
    if on:
        return Finding(GROUP, name, OK, "on by itself on this processor")
    return Finding(GROUP, name, OK, f"TensorFlow leaves it off on this processor; {shim} switches it on")


def nvidia_driver() -> str:
    """The NVIDIA driver's GPUs and version, as nvidia-smi tells them; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "an NVIDIA driver without nvidia-smi" if pathlib.Path("/proc/driver/nvidia").exists() else ""
    query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run([tool, *query], capture_output=True, text=True, timeout=_SMI_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{_SMI_FAILED}: no answer in {_SMI_SECONDS} s"
    if done.returncode != 0:
        return f"{_SMI_FAILED}: {((done.stdout or done.stderr).strip().splitlines() or ['no reason given'])[0]}"
    lines = [line.split(", ") for line in done.stdout.strip().splitlines()]
    each = ", ".join(f"{name} with {memory}" for name, _, memory in lines)
    return f"NVIDIA driver {lines[0][1]}: {each}" if lines else ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
