"""One way to say that the user's input is wrong: one line, exit code 2, no traceback."""

import errno
import os
import sys
from collections.abc import Callable, Sequence

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """A mistake in what the user gave. Its text is one line: file, place, value, and what to do."""


def run_tool(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a command line's `main(argv)` and exit with its code; user errors become one line on stderr."""
    try:
        sys.exit(main(None))
    except InputError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain again while flushing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{os.strerror(error.errno)}; free space or choose another place", 1)


def _fail(message: str, code: int = EXIT_BAD_INPUT) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
