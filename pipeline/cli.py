"""Running a command: settings as options, exit codes, and one line on stderr instead of a traceback."""

import argparse
import contextlib
import dataclasses
import errno
import math
import os
import pathlib
import re
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import pipeline
from pipeline.errors import InputError, TryAgainError
from pipeline.mirror import with_urls
from pipeline.remote import as_path, is_remote
from pipeline.status import EXIT_INTERRUPTED, answer_interrupts, end

EXIT_BAD_INPUT = 2
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h, on which schedulers start the job again

# As setup.cfg has them.
COMMANDS = {
    "train.py": "kannada-train",
    "tools/benchmark.py": "kannada-benchmark",
    "tools/csv_to_tfrecord.py": "kannada-convert",
    "tools/doctor.py": "kannada-doctor",
    "tools/export.py": "kannada-export",
    "tools/import_tfrecord.py": "kannada-import",
    "tools/inspect_tfrecord.py": "kannada-inspect",
    "tools/launch.py": "kannada-launch",
    "tools/make_sample_csv.py": "kannada-sample",
    "tools/predict.py": "kannada-predict",
    "tools/prove_resume.py": "kannada-prove-resume",
}
# Not in a longer path, and not a file that a message is about.
_SCRIPT = re.compile(rf"(?<![\w/.\\-])(?:python )?({'|'.join(map(re.escape, COMMANDS))})(?![\w/:])")

_Settings = TypeVar("_Settings")


class Parser(argparse.ArgumentParser):
    """An argument parser with `--version`, whose errors are InputErrors: one line, like any other mistake.

    Of a description, such as a module's docstring, help begins with the first paragraph and ends with the others.
    """

    def __init__(self, *args: Any, description: str = "", **kwargs: Any) -> None:
        summary, _, usage = description.partition("\n\n")
        kwargs |= {"description": summary, "epilog": usage, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **kwargs)
        if self.add_help:
            self.add_argument("--version", action="version", version=f"%(prog)s {pipeline.__version__}")

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")

    def format_help(self) -> str:
        return with_command_names(super().format_help())


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    metavar: str | tuple[str, ...] | None = None,
    type: Callable[[str], Any] | None = None,
    group: str | None = None,
    minimum: float = -math.inf,
    below: float = math.inf,
    **details: Any,
) -> Any:
    """A dataclass field that is also an option of a command line, with all that help and validation need.

    Args:
        default: None if the program chooses; then `help` describes how.
        type: reads the option's text; by default the field's annotated type.
        group: heading in --help.
        minimum: smallest valid number.
        below: first number that is too large.
        details: `flag`: the option that sets it to False; `nargs`: values of a tuple; `repeat`: the option may be
            given several times, for a tuple.
    """
    bounds = {"choices": choices, "minimum": minimum, "below": below}
    return dataclasses.field(
        default=default, metadata={"help": help, "metavar": metavar, "type": type, "group": group, **bounds, **details}
    )


def add_settings(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add one option per `setting` of a dataclass; options that are not given are None in the parsed namespace."""
    groups: dict[str | None, Any] = {None: parser}
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        option = field.metadata
        if not option:  # not for the command line
            continue
        if option["group"] not in groups:
            groups[option["group"]] = parser.add_argument_group(option["group"])
        automatic = any(field.default is value for value in (None, False, True, (), "", dataclasses.MISSING))
        text = option["help"] if automatic else f"{option['help']} (default: {field.default})"
        annotation = types[field.name]
        kind = (typing.get_args(annotation) or (annotation,))[0]  # int of int | None
        kind = any_path if kind is pathlib.Path else kind
        if kind is bool:
            # None rather than False, so that the default of the dataclass applies (`settings_from`).
            details: dict[str, Any] = {"action": "store_false" if "flag" in option else "store_true", "default": None}
        else:
            metavar = option["metavar"] or ("N" if kind is int else None)
            details = {"type": option["type"] or kind, "choices": option["choices"] or None, "metavar": metavar}
            if "nargs" in option:
                details["nargs"] = option["nargs"]
            if "repeat" in option:
                details["action"] = "append"
        flag = option.get("flag") or flag_of(field.name)
        groups[option["group"]].add_argument(flag, dest=field.name, help=text, **details)


def any_path(text: str) -> pathlib.Path:
    """The value of an option that takes a path or a URL; argparse replaces the message of any other ValueError."""
    try:
        return as_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def local_path(text: str) -> pathlib.Path:
    """The value of an option that takes only a path of this machine."""
    if is_remote(text):
        raise argparse.ArgumentTypeError(f"{text}: only a local path can be given here; copy to it, or from it")
    return any_path(text)


def settings_from(cls: type[_Settings], args: argparse.Namespace, **overrides: Any) -> _Settings:
    """An instance of a dataclass from parsed options; `overrides` take precedence, defaults fill in the rest."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    given = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return cls(**{**given, **overrides})


def check_settings(settings: Any) -> None:
    """Check the choices and bounds that the fields of a dataclass instance declare.

    Raises:
        InputError: a value is not allowed; the message names option, value and rule.
    """
    for field in dataclasses.fields(settings):
        option, value = field.metadata, getattr(settings, field.name)
        if not option:  # not for the command line
            continue
        if option["choices"] and value is not None and value not in option["choices"]:
            raise InputError(f"{flag_of(field.name)} {value!r}: choose one of {', '.join(option['choices'])}")
        if isinstance(value, (int, float)):
            if not math.isfinite(value):  # no comparison with NaN holds, so the bounds below would let it pass
                raise InputError(f"{flag_of(field.name)} {value}: it must be a finite number")
            if value < option["minimum"]:
                raise InputError(f"{flag_of(field.name)} {value}: it must be at least {option['minimum']}")
            if value >= option["below"]:
                raise InputError(f"{flag_of(field.name)} {value}: it must be below {option['below']:,}")


def flag_of(name: str) -> str:
    """The option of a setting: batch_size -> --batch-size."""
    return "--" + name.replace("_", "-")


def with_command_names(text: str) -> str:
    """A text for users in which this project's scripts have the names of the commands that this installation has.

    In a checkout they are scripts, as the texts have them: `python tools/csv_to_tfrecord.py`.
    """
    started, root = pathlib.PurePath(sys.argv[0]).name, pathlib.Path(__file__).parent.parent
    if (root / "setup.cfg").exists() and not started.startswith("kannada-"):
        return text
    return _SCRIPT.sub(lambda match: COMMANDS[match[1]], text)


def run_command(main: Callable[[Sequence[str] | None], int | None], at_once: bool = False) -> None:
    """Run `main(argv)` and exit with its code; what a user can fix becomes one line on stderr.

    `at_once` skips Python's own clean-up. It is for programs that hold autotuned tf.data iterators: freeing one can
    wait up to a minute for its next round of tuning (see `pipeline/feed/dataset.py`).
    """
    # As an exception it passes through the clean-up of whatever is being written; a plain kill leaves temporaries.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    _open_standard_streams()
    answer_interrupts()
    code = _exit_code(main)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        code = code or _os_error_code(error)
        # Python would fail again when it flushes at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if at_once:
        os._exit(code)
    sys.exit(code)


def _open_standard_streams() -> None:
    """Connect closed standard streams to the null device, and let them print file names that are not text."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # Left closed, its number would go to the next file opened, and prints would end up in that.
            null = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(null, True)  # as standard streams are, unlike what Python opens
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == 0 else "w"))
    for stream in (sys.stdout, sys.stderr):
        typing.cast(Any, stream).reconfigure(errors="backslashreplace")


def _exit_code(main: Callable[[Sequence[str] | None], int | None]) -> int:
    try:
        return main(None) or 0
    except SystemExit as stop:  # --help, or SIGTERM
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except InputError as error:
        return _print_error(str(error))
    except TryAgainError as error:
        return _print_error(str(error), EXIT_TRY_AGAIN)
    except KeyboardInterrupt:
        end()
        return _print_error("interrupted", EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the system: a bug, so it gets a traceback
            raise
        return _os_error_code(error)


def _os_error_code(error: OSError) -> int:
    """Report what the system refused; nothing is printed if the reader of our output (head, less) has gone."""
    if isinstance(error, BrokenPipeError) or error.errno is None:
        return 1
    where = f"{error.filename}: " if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "free space" if full else "check the path" if error.errno == errno.ENOENT else "choose another place"
    return _print_error(f"{where}{os.strerror(error.errno)}; {advice}")


def _print_error(message: str, code: int = EXIT_BAD_INPUT) -> int:
    with contextlib.suppress(OSError):  # stderr itself may be what fails; the exit code remains
        print("error: " + with_urls(with_command_names(" ".join(message.splitlines()))), file=sys.stderr, flush=True)
    return code
