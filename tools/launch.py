"""Run a training as several workers of this machine.

    python tools/launch.py --workers 4 -- python train.py --strategy multiworker --data data/mine --run-dir runs/mine

Starts the command once per worker with a TF_CONFIG of its own, on free ports. Worker 0's lines appear here, and each
worker has a log in --log-dir. GPUs are dealt out evenly. If one worker fails, the others are ended; the exit code is
its own, or 75 (start again to resume) if it was killed or lost another worker. Ctrl-C asks all workers to stop, which
saves a checkpoint; a second one kills them.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from pipeline.cli import EXIT_TRY_AGAIN, Parser, local_path, run_command
from pipeline.errors import InputError
from pipeline.train.cluster import free_ports, tf_config

_POLL_SECONDS = 0.02
_MAX_WORKERS = 64  # of one machine; each is a TensorFlow of half a gigabyte
_STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the workers that the command line describes; returns the exit code of them all."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--workers", type=int, required=True, metavar="N", help="processes to start")
    add("--log-dir", type=local_path, default="worker-logs", help="worker-K.log go here (default: %(default)s)")
    text = "after a failure: to end by themselves, and again after SIGTERM (default: 5)"
    add("--grace", type=float, default=5.0, metavar="SECONDS", help=text)
    add("command", nargs="+", metavar="COMMAND", help="after --: what each worker runs")
    args = parser.parse_args(argv)
    if not 1 <= args.workers <= _MAX_WORKERS:
        raise InputError(f"--workers {args.workers}: use 1 to {_MAX_WORKERS}")
    if os.environ.get("TF_CONFIG"):
        raise InputError("TF_CONFIG is set, so this is one worker of a cluster; unset it, or run the command itself")
    environments = worker_environments(args.workers)
    args.log_dir.mkdir(parents=True, exist_ok=True)
    with Workers(args.command, environments, args.log_dir) as workers:
        return workers.wait(args.grace)


def worker_environments(count: int) -> list[dict[str, str]]:
    """The environment of each of `count` workers: this one's, a TF_CONFIG and, if there are GPUs, its share of them.

    Raises:
        InputError: the GPUs cannot be dealt out evenly.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    environments = [{**os.environ, "TF_CONFIG": tf_config(addresses, worker)} for worker in range(count)]
    gpus = _visible_gpus()
    if len(gpus) % count:
        raise InputError(f"--workers {count}: {len(gpus)} GPUs do not divide among them; set CUDA_VISIBLE_DEVICES")
    share = len(gpus) // count
    for worker, environment in enumerate(environments if gpus else ()):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[worker * share : (worker + 1) * share])
    return environments


class Workers:
    """Processes that live and end together. A context manager; nothing runs after the block.

    Each is a session of its own, so that a terminal's Ctrl-C reaches only this process, which passes it on once.
    """

    def __init__(self, command: Sequence[str], environments: Sequence[dict[str, str]], log_dir: pathlib.Path) -> None:
        self._command, self._environments = list(command), environments
        self._logs = [log_dir / f"worker-{worker}.log" for worker in range(len(environments))]
        self._processes: list[subprocess.Popen] = []
        self._reader: threading.Thread | None = None
        self._stops: list[int] = []  # signals that this process got
        self._ended_by_us: set[int] = set()

    def __enter__(self) -> "Workers":
        try:
            for worker, environment in enumerate(self._environments):
                self._start(worker, environment)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        if self._reader is not None:
            self._reader.join(timeout=1)  # not for ever: a process that the worker left behind may hold its output

    def wait(self, grace: float) -> int:
        """Wait for the end of all workers, and return the exit code for them.

        The first worker that fails ends the others: they get `grace` seconds to notice, which lets a training report it
        and clean up, then SIGTERM, and as many seconds later SIGKILL.
        """
        ended, terminated = None, False
        with self._listening():
            while None in (codes := self._codes()):
                # Workers that were asked to stop leave together; a SIGTERM then would only interrupt that.
                if ended is None and (any(codes) or (self._stops and codes.count(None) < len(codes))):
                    ended = time.monotonic()
                waited = time.monotonic() - ended if ended is not None else 0.0
                if waited > grace and not terminated and not self._stops:
                    self._send(signal.SIGTERM)
                    terminated = True
                if len(self._stops) > 1 or waited > 2 * grace:
                    self._send(signal.SIGKILL)
                time.sleep(_POLL_SECONDS)
        if self._reader is not None:
            self._reader.join(timeout=1)
        return self._result(self._codes())

    def _start(self, worker: int, environment: dict[str, str]) -> None:
        with self._logs[worker].open("wb") as log:
            piped: Any = subprocess.PIPE if worker == 0 else log
            options: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
            try:
                process = subprocess.Popen(self._command, stdout=piped, env=environment, **options)
            except (FileNotFoundError, PermissionError) as error:
                raise InputError(f"{self._command[0]}: cannot be run ({error.strerror})") from error
        self._processes.append(process)
        if worker == 0:
            self._reader = threading.Thread(target=_show, args=(process.stdout, self._logs[0]), daemon=True)
            self._reader.start()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Within the block, signals that end a program are passed on to the workers, the first one as it is."""

        def stop(signum: int, _: object) -> None:
            self._stops.append(signum)
            if len(self._stops) == 1:
                self._send(signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

        before = {signum: signal.signal(signum, stop) for signum in _STOPS}
        for signum, handler in before.items():
            # A hang-up that nohup had ignored stays so. Ctrl-C is ignored in what a script runs in the background, but
            # trainings hear it there too.
            if handler is signal.SIG_IGN and signum not in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, handler)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _codes(self) -> list[int | None]:
        return [process.poll() for process in self._processes]

    def _send(self, signum: int) -> None:
        """Send a signal to the running workers and to what they started."""
        for worker, process in enumerate(self._processes):
            if process.poll() is None:
                if not self._stops:
                    self._ended_by_us.add(worker)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signum)

    def _result(self, codes: Sequence[int | None]) -> int:
        """One exit code for all: an error's own before those of lost workers, which the others only follow."""
        ours = {-signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM}
        failed = {k: code for k, code in enumerate(codes) if code and not (k in self._ended_by_us and code in ours)}
        errors = [k for k, code in failed.items() if code > 0 and code != EXIT_TRY_AGAIN]
        if self._stops and not any(failed[k] < 128 for k in errors):
            return 128 + self._stops[0] if any(codes) else 0
        killed = [k for k, code in failed.items() if code < 0]
        for worker in [*errors, *killed, *failed][:1]:
            code = failed[worker]
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            print(f"worker {worker} {how}: {_last_line(self._logs[worker])}({self._logs[worker]})", file=sys.stderr)
            return code if worker in errors else EXIT_TRY_AGAIN
        return 0


def _show(stream: IO[bytes], path: pathlib.Path) -> None:
    """Copy worker 0's output to its log, and here with a prefix."""
    with stream, path.open("wb") as log:
        for line in stream:
            log.write(line)
            log.flush()
            with contextlib.suppress(OSError):  # a pipe that is closed here must not end the training
                print(f"[0] {line.decode(errors='backslashreplace').rstrip()}", flush=True)


def _last_line(path: pathlib.Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="backslashreplace").split("\n")
    return next((f"{line.strip()} " for line in reversed(lines) if line.strip()), "")


def _visible_gpus() -> list[str]:
    """The numbers (or names) of the GPUs that a process here may use."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in given.split(",") if name.strip() not in ("", "-1")]
    # CUDA counts from 0 whatever the devices are called. A container shows only those it was given.
    return [str(number) for number, _ in enumerate(pathlib.Path("/dev").glob("nvidia[0-9]*"))]


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
