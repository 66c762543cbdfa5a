"""Running a command: settings as options, exit codes, standard streams."""

import configparser
import dataclasses
import itertools
import os
import pathlib
import re
import subprocess
import sys

import pytest

from pipeline import cli
from pipeline.cli import Parser, add_settings, check_settings, setting, settings_from
from pipeline.errors import InputError


@dataclasses.dataclass(frozen=True)
class Settings:
    place: pathlib.Path = setting(help="where")
    steps: int | None = setting(None, "how many", minimum=1, below=10)
    kind: str = setting("slow", "which", choices=("slow", "fast"), group="speed")
    rate: float = setting(0.0, "how much", metavar="RATE", group="speed")
    size: int = setting(8, "how large", type=lambda text: 2 * int(text))
    log: bool = setting(False, "say more")
    color: bool = setting(True, "in black and white", flag="--gray")
    range: tuple[float, float] | None = setting(None, "from and to", nargs=2, metavar=("LO", "HI"), type=float)
    drop: tuple[str, ...] = setting((), "what to ignore", repeat=True)
    inner: int = 7

    def __post_init__(self) -> None:
        check_settings(self)


def parse(*argv, **overrides):
    parser = Parser(prog="tool")
    add_settings(parser, Settings)
    return settings_from(Settings, parser.parse_args(argv), **overrides)


def test_options_follow_from_the_fields():
    assert parse("--place", "a") == Settings(pathlib.Path("a"))
    given = parse("--place", "a", "--steps", "2", "--kind", "fast", "--rate", "1e-3", "--size", "3", "--log")
    assert given == Settings(pathlib.Path("a"), 2, "fast", 1e-3, 6, True)
    assert parse("--place", "a", place=pathlib.Path("b")).place == pathlib.Path("b")


def test_options_may_turn_off_have_several_values_or_be_repeated():
    given = parse("--place", "a", "--gray", "--range", "-1", "1", "--drop", "x", "--drop", "y")
    assert (given.color, given.range, given.drop, given.inner) == (False, (-1.0, 1.0), ("x", "y"), 7)
    with pytest.raises(InputError, match="--inner"):
        parse("--place", "a", "--inner", "3")


def test_help_has_each_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert all(line in text for line in ("--steps N how many --size N", "which (default: slow)", "(default: 0.0)"))
    assert text.index("speed:") < text.index("--kind {slow,fast} which")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "0"], "--steps 0: it must be at least 1"),
        (["--steps", "10"], "--steps 10: it must be below 10"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'; see --help"),
        (["--kind", "odd"], "argument --kind: invalid choice"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(argv, message):
    with pytest.raises(InputError, match=message):
        parse("--place", "a", *argv)
    with pytest.raises(InputError, match="--kind 'odd': choose one of slow, fast"):
        Settings(pathlib.Path("a"), kind="odd")


PROGRAM = """
import atexit, os, pathlib, signal, sys, time
from pipeline import cli, errors
def main(_):
    print('measured')
    {body}
cli.run_command(main, at_once={at_once})
"""


def run(body="", at_once=False, **options):
    command = [sys.executable, "-c", PROGRAM.format(body=body, at_once=at_once)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


ENDS = [
    ("return 3", 3, ""),
    ("raise errors.InputError('wrong\\nvalue')", 2, "error: wrong value\n"),
    ("raise errors.TryAgainError('gone')", 75, "error: gone\n"),
    ("os.kill(os.getpid(), signal.SIGTERM)", 143, ""),
    ("raise KeyboardInterrupt", 130, "error: interrupted\n"),
    ("open('/nowhere/at/all')", 2, "error: /nowhere/at/all: No such file or directory; check the path\n"),
]


@pytest.mark.parametrize(("body", "code", "error"), ENDS, ids=[body for body, *_ in ENDS])
def test_exit_codes_and_one_line_errors(body, code, error):
    for at_once, start in ((False, ""), (True, "atexit.register(time.sleep, 600); ")):
        done = run(start + body, at_once)
        assert (done.returncode, done.stdout, done.stderr) == (code, "measured\n", error)


@pytest.mark.parametrize("closed", [c for n in (1, 2, 3) for c in itertools.combinations(range(3), n)], ids=str)
def test_work_is_done_whichever_standard_streams_are_closed(tmp_path, closed):
    body = "pathlib.Path('result').open('w').write('whole'); print('a warning', file=sys.stderr)"

    def close():
        for descriptor in closed:
            os.close(descriptor)

    done = run(body, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}, preexec_fn=close)  # noqa: PTH109
    assert (tmp_path / "result").read_text() == "whole"
    expected = ("" if 1 in closed else "measured\n", "" if 2 in closed else "a warning\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, *expected)


@pytest.mark.parametrize(
    ("target", "code", "error"),
    [("| true", 1, ""), ("> /dev/full", 2, "error: No space left on device; free space\n")],
    ids=["reader gone", "disk full"],
)
def test_output_that_cannot_be_written_is_no_traceback(target, code, error):
    body = "time.sleep(0.3)"
    command = [sys.executable, "-c", PROGRAM.format(body=body, at_once=False)]
    shell = f'set -o pipefail; "$@" {target}'
    done = subprocess.run(["bash", "-c", shell, "-", *command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, error)


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("run python tools/inspect_tfrecord.py repair 'a b'", "run kannada-inspect repair 'a b'"),
        ("create one with tools/csv_to_tfrecord.py", "create one with kannada-convert"),
        ("usage: python train.py --data a", "usage: kannada-train --data a"),
        ("train.py: not a CSV", "train.py: not a CSV"),
        ("mine/train.py or xtools/predict.py", "mine/train.py or xtools/predict.py"),
    ],
)
def test_installed_commands_give_advice_with_installed_names(monkeypatch, text, installed):
    assert cli.with_command_names(text) == text
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kannada-train", "--data", "a"])
    assert cli.with_command_names(text) == installed


def test_advice_knows_all_commands_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(cli.__file__).parent.parent / "setup.cfg")
    scripts = dict(re.findall(r"(\S+) = (\S+):cli", setup["options.entry_points"]["console_scripts"]))
    assert {name: f"{module.replace('.', '/')}.py" for name, module in scripts.items()} == {
        name: script for script, name in cli.COMMANDS.items()
    }
