"""Running a function over many items on several cores, with the results in order."""

import collections
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.errors import TryAgainError

_AHEAD = 1  # items per worker submitted before their turn; more of them only push blocks out of the cache

Item = TypeVar("Item")
Result = TypeVar("Result")
Ahead = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """`count` threads, or processes for work that holds the GIL too often; one worker is the caller itself.

    As a context manager it ends its workers, after an error as soon as the items being worked on are done.
    """

    def __init__(self, count: int, processes: bool = False) -> None:
        self.count, self.processes = count, processes and count > 1
        self._pool: Executor | None = None
        if self.processes:
            import multiprocessing  # here and below: small files do not wait for it
            from concurrent.futures import ProcessPoolExecutor

            context = multiprocessing.get_context("spawn")  # a fork copies locks that threads hold
            self._pool = ProcessPoolExecutor(count, context, _start_process)
        elif count > 1:
            self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def ahead(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) in the order of the items, a few of which are worked on before their turn.

        Raises:
            TryAgainError: a worker process was killed.
        """
        if self._pool is None:
            yield from map(function, items)
            return
        pending: collections.deque[Future[Result]] = collections.deque()
        try:
            for item in items:
                with _interrupts_held():  # this may start a process, which inherits it
                    pending.append(self._pool.submit(function, item))
                # Limited, because `items` are blocks of files, and results wait in memory.
                if len(pending) > self.count * _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenExecutor as error:
            raise TryAgainError(
                "a worker process was killed, perhaps for its memory; rerun the command to resume, with fewer workers"
            ) from error
        finally:
            for future in pending:
                future.cancel()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches all processes, and the parent decides: Python would print a traceback in one that starts."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_process() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker holds nothing that needs cleaning up
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing.connection

    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # no process is left to use the results
