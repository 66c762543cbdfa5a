"""Running a command line: exit codes, and one line on stderr instead of a traceback."""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipeline.errors import InputError, TryAgainError

EXIT_BAD_INPUT = 2
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h, which schedulers know as a reason to start the job again
EXIT_INTERRUPTED = 128 + signal.SIGINT


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors, and so one line like any other."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def run_command(main: Callable[[Sequence[str] | None], int | None], at_once: bool = False) -> None:
    """Run a command line's `main(argv)` and exit with its code; what a user can mend becomes one line on stderr.

    `at_once` ends the process where it stands. It is for a program that still holds iterators of tf.data which tune
    themselves: who frees one may wait a minute for its next round of tuning (see `pipeline/feed/dataset.py`).
    """
    # As an exception it passes through the clean-up of whoever is writing; killed at once, temporaries would stay.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # a file name need not be text
    try:
        code = _exit_code(main)
        if at_once:
            _flush()
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain again while flushing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if at_once:
        os._exit(code)
    sys.exit(code)


def _exit_code(main: Callable[[Sequence[str] | None], int | None]) -> int:
    try:
        return main(None) or 0
    except SystemExit as end:  # --help, or SIGTERM
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except InputError as error:
        return _print_error(str(error))
    except TryAgainError as error:
        return _print_error(str(error), EXIT_TRY_AGAIN)
    except KeyboardInterrupt:
        return _print_error("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _print_error(f"{where}{os.strerror(error.errno)}; {'free space' if full else 'choose another place'}")


def _print_error(message: str, code: int = EXIT_BAD_INPUT) -> int:
    print("error: " + " ".join(message.splitlines()), file=sys.stderr)
    return code


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
