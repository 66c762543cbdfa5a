"""Check this machine and the installation, and print what to fix.

    python tools/doctor.py --data-dir /big/data --run-dir /big/runs

The exit code is 1 if there is something to fix, else 0. Nothing is left behind.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.cli import Parser, local_path, run_command
from pipeline.feed.plan import default_memory_budget

PACKAGE = "kannada-pipeline"
_INSTALL = "python -m pip install -e ."
_MIN_MEMORY = 2 << 30  # TensorFlow alone takes half a gigabyte
_MIN_DISK = 1 << 30
_DRIVER_SECONDS, _PROBE_SECONDS = 20, 300  # a driver may never answer; TensorFlow computes for 5
# A process of its own, because a driver can end it or hang.
_PROBE = """
import json, keras, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
for index in range(len(gpus)):
    with tf.device(f"GPU:{index}"):
        assert float(tf.reduce_sum(tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64))))) == 64.0**3
details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
print(json.dumps({
    "gpus": [detail.get("device_name", gpu.name) for gpu, detail in zip(gpus, details)],
    "capabilities": [detail.get("compute_capability", [0, 0]) for detail in details],
}))
"""
# What TensorFlow 2.21 opens before it lists a GPU, from xla/tsl/platform/default/dlopen_checker.cc: without one of them
# it lists none. The first two come with the driver, the others with the extra `cuda`.
_DRIVER_LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
_CUDA_LIBRARIES = (
    *("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11"),
    *("libcusolver.so.11", "libcusparse.so.12", "libcudnn.so.9"),
)
_MIN_CAPABILITY = (6, 0)  # the oldest that TensorFlow's wheels hold code for


class Check(NamedTuple):
    """What was checked, the observation, and what to fix, if anything."""

    name: str
    text: str
    fix: str = ""


def check_versions(package: str = PACKAGE) -> Check:
    """Whether Python and the required packages have the versions that `package` states."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        metadata = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return Check("versions", f"{package} is not installed", _INSTALL)
    wrong, python, versions = [], platform.python_version(), {}
    if python not in SpecifierSet(metadata["Requires-Python"] or ""):
        wrong.append(f"Python {python}, needed {metadata['Requires-Python']}")
    for requirement in map(Requirement, importlib.metadata.requires(package) or ()):
        # Markers of extras are false for an empty extra, so optional packages are not checked.
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = versions[requirement.name] = _version(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{requirement.name} {version or 'missing'}, needed {requirement.specifier or 'any'}")
    if wrong:
        return Check("versions", "; ".join(wrong), f"{_INSTALL} (in a new virtual environment)")
    main = ", ".join(f"{name} {version}" for name, version in list(versions.items())[:3])
    return Check("versions", f"Python {python}, {main}; {len(versions)} packages as required")


def check_tensorflow() -> Check:
    """Whether TensorFlow starts, and which devices it computes on."""
    code, out, err = _run([sys.executable, "-c", _PROBE], _PROBE_SECONDS)
    if code != 0:
        reason = (err.strip().splitlines() or [f"exit code {code}"])[-1]
        fix = f"{_INSTALL}, or reboot if the GPU driver is at fault; then try again"
        return Check("TensorFlow", f"does not start or compute ({reason})", fix)
    probe = json.loads(out.splitlines()[-1])
    driver, visible = nvidia_driver(), os.getenv("CUDA_VISIBLE_DEVICES")
    missing = missing_libraries() if driver and not probe["gpus"] else []
    return check_devices(probe["gpus"], driver, visible, probe["capabilities"], missing)


def check_devices(
    gpus: Sequence[str],
    driver: str,
    visible: str | None,
    capabilities: Sequence[Sequence[int]] = (),
    missing: Sequence[str] = (),
) -> Check:
    """Whether TensorFlow detects the GPUs of the NVIDIA driver, and can compute on them.

    Args:
        gpus: names of the GPUs that TensorFlow lists.
        driver: as of `nvidia_driver`.
        visible: CUDA_VISIBLE_DEVICES, if it is set.
        capabilities: (major, minor) of each GPU.
        missing: as of `missing_libraries`.
    """
    if gpus:
        versions = [f"{gpu} (compute capability {a}.{b})" for gpu, (a, b) in zip(gpus, capabilities, strict=False)]
        text = f"{', '.join(versions or gpus)}; {driver or 'driver unknown'}"
        old = any(tuple(capability) < _MIN_CAPABILITY for capability in capabilities)
        return Check("devices", text, "hide the older GPU with CUDA_VISIBLE_DEVICES: needs 6.0" if old else "")
    if driver.startswith("nvidia-smi failed"):
        return Check("devices", driver, "the NVIDIA driver does not answer: reboot, or install it again")
    # Any other value hides devices on purpose.
    if driver and visible in (None, "all"):
        text = f"{driver} found, but TensorFlow detects no GPU"
        if missing:
            text += f"; not found: {', '.join(missing)}"
        if set(missing) & set(_DRIVER_LIBRARIES):
            return Check("devices", text, "put the driver's folder of these on LD_LIBRARY_PATH, or install it again")
        return Check("devices", text, f"{_INSTALL[:-1]}'.[cuda]', then try again")
    if driver:
        return Check("devices", f"{driver}, hidden by CUDA_VISIBLE_DEVICES={visible}")
    return Check("devices", "no GPU; training runs on the processor")


def missing_libraries() -> list[str]:
    """Which of the libraries that TensorFlow opens before it lists a GPU cannot be opened, each in a fresh process."""
    code = (
        "import ctypes, glob, json, os, site, sys\n"
        "roots = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]\n"
        "missing = []\n"
        "for name in sys.argv[1:]:\n"
        # TensorFlow finds them beside itself, by the RUNPATH of its own library.
        "    paths = [path for root in roots for path in glob.glob(os.path.join(root, 'nvidia', '*', 'lib', name))]\n"
        "    try:\n"
        "        ctypes.CDLL(name)\n"
        "    except OSError:\n"
        "        missing += [] if paths else [name]\n"
        "print(json.dumps(missing))"
    )
    exit_code, out, _ = _run([sys.executable, "-c", code, *_DRIVER_LIBRARIES, *_CUDA_LIBRARIES], _DRIVER_SECONDS)
    return json.loads(out) if exit_code == 0 else []


def check_cuda_packages(gpu_machine: bool) -> Check:
    """Which packages of the extra `cuda` are missing or of another version, on a machine with an NVIDIA driver."""
    from packaging.requirements import Requirement

    if not gpu_machine:
        return Check("CUDA packages", "not needed without an NVIDIA driver")
    listed = map(Requirement, (_version("tensorflow") and importlib.metadata.requires("tensorflow")) or ())
    extra = [item for item in listed if item.marker is not None and item.marker.evaluate({"extra": "and-cuda"})]
    versions = {item.name: _version(item.name) for item in (*extra, Requirement("nvidia-ml-py"))}
    lacking = [name for name, version in versions.items() if version is None]
    lacking += [
        f"{item.name} {item.specifier} (found {version})"
        for item in extra
        if (version := versions[item.name]) and not item.specifier.contains(version, prereleases=True)
    ]
    text = f"cuDNN {versions.get('nvidia-cudnn-cu12') or 'not from pip'}; "
    text += f"'.[cuda]' lacks {', '.join(lacking)}" if lacking else f"all {len(versions)} packages of '.[cuda]'"
    # CUDA may come from elsewhere; TensorFlow tells. Without nvidia-ml-py only the counters of training are missing.
    return Check("CUDA packages", text, "" if versions["nvidia-ml-py"] else f"{_INSTALL[:-1]}'.[cuda]'")


def nvidia_driver() -> str:
    """The NVIDIA driver and its GPUs; empty if there is none; why, if it does not answer."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return ""
    query = ["--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    code, out, err = _run([tool, *query], _DRIVER_SECONDS)
    if code != 0:
        return f"nvidia-smi failed: {((out or err).strip().splitlines() or ['no reason given'])[0]}"
    return f"NVIDIA driver {'; '.join(out.strip().splitlines())}"


def check_memory(free: int) -> Check:
    """Whether `free` bytes are enough to train."""
    return Check("memory", f"{free / 2**30:,.1f} GiB free", "free 2 GiB for training" if free < _MIN_MEMORY else "")


def check_folder(name: str, path: pathlib.Path) -> Check:
    """Whether a directory, or the place where it would be created, can be written, and its free space."""
    place = next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.lexists(folder))
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=place) as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())  # a quota may be noticed only here
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(name, f"{place}: {error.strerror}", "allow this user to write there, or choose another place")
    fix = "free 1 GiB for data and checkpoints" if free < _MIN_DISK else ""
    return Check(name, f"{place}: {free / 2**30:,.1f} GiB free", fix)


def check_temporary_directory() -> Check:
    """Whether Python finds a directory for temporary files."""
    try:
        return check_folder("temporary files", pathlib.Path(tempfile.gettempdir()))
    except FileNotFoundError:
        return Check("temporary files", "no writable directory", "set TMPDIR to a directory that can be written")


def print_checks(checks: Sequence[Check]) -> None:
    """All checks in columns, then what to fix."""
    for check in checks:
        print(f"{check.name:<15}  {'fix' if check.fix else 'ok':<3}  {check.text}")
    to_fix = [check for check in checks if check.fix]
    print(f"\n{len(to_fix) or 'nothing'} to fix")
    for number, check in enumerate(to_fix, 1):
        print(f"{number}. {check.name}: {check.fix}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks; returns the exit code."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--data-dir", type=local_path, default="data", metavar="DIR", help="where data sets go (default: data)")
    add("--run-dir", type=local_path, default="runs", metavar="DIR", help="where runs go (default: runs)")
    args = parser.parse_args(argv)
    checks = [
        check_memory(2 * default_memory_budget()),  # the budget is half of what is free
        check_folder("data", args.data_dir),
        check_folder("runs", args.run_dir),
        check_temporary_directory(),
        check_versions(),
        check_tensorflow(),
        check_cuda_packages(bool(nvidia_driver())),
    ]
    print_checks(checks)
    return int(any(check.fix for check in checks))


def _run(command: list[str], seconds: float) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; a command that does not end in time is killed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer in {seconds} s"
    return done.returncode, done.stdout, done.stderr


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
