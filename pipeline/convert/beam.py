"""A conversion's jobs on Apache Beam: each call of `ahead` is one pipeline, each item of it one element.

All workers and the caller share one file system or object store, on which the sources and the output lie. An element's
result is a file in the output directory that appears as a whole: a retried element changes nothing.
"""

import contextlib
import os
import pathlib
import pickle
import secrets
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pipeline.convert.source import Scan
from pipeline.convert.task import TaskResult
from pipeline.convert.workers import Item, Result, Workers
from pipeline.errors import InputError, TryAgainError
from pipeline.remote import as_path, is_remote

_SUFFIX = ".pickle"
_MAX_SHOWN = 200  # characters of an error of Beam, which may hold a worker's whole traceback


class BeamWorkers(Workers):
    """Workers that Beam's runner starts; `counters` adds up what they committed: rows, bytes, refused rows.

    Args:
        directory: the output's, which all workers see under this path.
        arguments: Beam's options as its command line has them, such as "--runner FlinkRunner".
        on_notice: called with a line of the counters at the end.
    """

    def __init__(
        self, directory: pathlib.Path, arguments: str = "", on_notice: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(1)
        self.processes = True  # a task per element, not blocks of one
        self.counters: dict[str, int] = {}
        self._directory, self._arguments, self._on_notice = directory, shlex.split(arguments), on_notice

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.counters and self._on_notice is not None:
            counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(self.counters.items()))
            self._on_notice(f"Beam's counters: {counts}")

    def ahead(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) in the order of the items, once all of them are done.

        Raises:
            InputError: that of the first item that has one.
            TryAgainError: the job failed after Beam's own retries.
        """
        elements = list(enumerate(items))
        if not elements:
            return
        scratch = self._directory / f"beam-{secrets.token_hex(4)}"
        if not is_remote(scratch):
            scratch.mkdir()
        try:
            self._run(function, elements, scratch)
            for index, _ in elements:
                result = pickle.loads(_path(scratch, index).read_bytes())  # noqa: S301 (our own)
                if isinstance(result, InputError):
                    raise result
                yield result
        finally:
            if not is_remote(scratch):
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                for path in list(scratch.iterdir()) if scratch.is_dir() else []:
                    path.unlink()

    def _run(self, function: Callable[[Any], Any], elements: Sequence[tuple[int, Any]], scratch: pathlib.Path) -> None:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        # Pickled here: Beam's coders for elements differ by runner, and bytes pass through all of them.
        payloads = [pickle.dumps((function, *element)) for element in elements]
        pipeline = beam.Pipeline(options=PipelineOptions(self._arguments))
        # Without Reshuffle a runner may fuse both, and then one worker takes all.
        _ = pipeline | beam.Create(payloads) | beam.Reshuffle() | beam.Map(_do, str(scratch))
        try:
            with _dead_workers_noticed():
                job = pipeline.run()
                state = job.wait_until_finish()
        except Exception as error:  # Beam's runners have no common error
            raise TryAgainError(f"the Beam job failed: {_last_line(error)}; rerun the command to resume") from error
        if state not in (None, "DONE") or not all(_path(scratch, index).exists() for index, _ in elements):
            raise TryAgainError(f"the Beam job ended as {state}, not all is done; rerun the command to resume")
        with contextlib.suppress(NotImplementedError, AttributeError):  # some runners have no metrics
            for counter in job.metrics().query()["counters"]:
                if counter.key.metric.namespace == "convert":
                    name = counter.key.metric.name
                    self.counters[name] = self.counters.get(name, 0) + counter.result


@contextlib.contextmanager
def _dead_workers_noticed() -> Iterator[None]:
    """Raise TryAgainError in the main thread if a worker process of Beam's local runner ends: the runner would hang."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGUSR1"):
        yield
        return
    main, hook = threading.main_thread().ident, threading.excepthook

    def notice(arguments: threading.ExceptHookArgs) -> None:
        if arguments.thread is not None and arguments.thread.name == "run_worker" and main is not None:
            signal.pthread_kill(main, signal.SIGUSR1)

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # once: the runner now ends its other workers
        raise TryAgainError("a worker process was killed, perhaps for its memory")

    before = signal.signal(signal.SIGUSR1, interrupt)
    threading.excepthook = notice
    try:
        yield
    finally:
        threading.excepthook = hook
        signal.signal(signal.SIGUSR1, before)


def _do(payload: bytes, scratch: str) -> None:
    """Run one element in a worker and leave its result, or its InputError, as a file.

    An InputError is a result, not a failure: Beam would repeat the element, with the same outcome.
    """
    function, index, item = pickle.loads(payload)  # noqa: S301 (our own)
    directory = as_path(scratch)
    try:
        result = function(item)
    except InputError as error:
        result = InputError(str(error))  # without its cause, which some packages let pickle take along
    _count(result)
    if is_remote(directory):
        _path(directory, index).write_bytes(pickle.dumps(result))
        return
    handle, temporary = tempfile.mkstemp(dir=directory)
    with os.fdopen(handle, "wb") as file:
        pickle.dump(result, file)
    pathlib.Path(temporary).replace(_path(directory, index))


def _count(result: object) -> None:
    if isinstance(result, Scan):
        _add("rows_scanned", len(result.labels))
    elif isinstance(result, TaskResult):
        _add("rows_written", sum(shard.num_examples for shard in result.all_shards))
        _add("bytes_written", sum(shard.num_bytes for shard in result.all_shards))
    elif isinstance(result, InputError):
        _add("refused_rows", 1)


def _add(name: str, count: int) -> None:
    from apache_beam.metrics import Metrics

    Metrics.counter("convert", name).inc(count)


def _path(scratch: pathlib.Path, index: int) -> pathlib.Path:
    return scratch / f"{index:06d}{_SUFFIX}"


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].strip()[:_MAX_SHOWN]
