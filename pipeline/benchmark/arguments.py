"""The command line of tools/benchmark.py: a command for each kind of measurement, and `all`."""

import argparse
import pathlib

from pipeline.cli import Parser
from pipeline.feed.plan import FEEDS
from pipeline.train.config import PRECISIONS, SCALES, STRATEGIES, size_argument

XLA = {"off": (False,), "on": (True,), "both": (False, True)}  # what --xla stands for

_COMMANDS = {
    "feed": "every stage of every feed, beside other recipes and the machine's limits",
    "step": "the step on a fixed batch: operations/s and the share of the peak",
    "train": "the feed, the step on a fixed batch, both, and accelerator utilisation",
    "scale": "the resident feed on more and more rows, and for more replicas",
    "handover": "batches to replicas, beside TensorFlow's distributed data sets",
    "host": "what a step costs the host with a trivial network, beside Keras's fit",
    "memory": "what streaming takes at its peak, on made-up shards (864 bytes a row)",
    "convert": "a whole conversion, beside pandas.read_csv of the file",
    "article": "train.py beside the program that this project began from",
    "all": "each of these in turn, for docs/benchmarks.md (about 20 minutes on two cores)",
}


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help begins and ends with a tool's docstring; `command` of what it parses is one of _COMMANDS."""
    summary, _, usage = doc.partition("\n\n")
    parser = Parser(
        prog="benchmark.py",
        description=summary,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, dest="command", metavar="|".join(_COMMANDS))
    made = {name: subparsers.add_parser(name, help=text, description=text) for name, text in _COMMANDS.items()}
    for name in ("feed", "step", "train"):
        _add_training(made[name])
    for name in ("feed", "train"):
        _add_settings(made[name])
    _add_variants(made["step"])
    made["feed"].add_argument("--no-rivals", dest="rivals", action="store_false", help="leave out other recipes")
    made["scale"].add_argument("--rows", type=int, default=6_000_000, metavar="N", help="largest number of rows")
    _add_handover(made["handover"])
    _add_memory(made["memory"])
    _add_programs(made["convert"], made["article"])
    _add_all(made["all"])
    for name in ("feed", "step", "train", "scale", "handover", "host"):
        _add_measuring(made[name])
        made[name].add_argument("--plot", type=pathlib.Path, metavar="FILE", help="draw the rows as a PNG")
    for name in made.keys() - {"all"}:
        _add_output(made[name])
    return parser


def _add_handover(parser) -> None:
    add = parser.add_argument
    add("--batch-size", type=int, default=256, metavar="N", help="global batch, default 256")
    add("--steps-per-call", type=int, default=16, metavar="K", help="of the longer calls, default 16")


def _add_programs(convert, article) -> None:
    for one in (convert, article):
        one.add_argument("--csv", type=pathlib.Path, required=True, metavar="FILE", help="a CSV of labelled images")
        one.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns (default 3)")
    article.add_argument(
        "--rows", type=int, default=8000, metavar="N", help="the first rows to train on (default 8,000)"
    )


def _add_all(parser) -> None:
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="data set directory")
    add("--csv", type=pathlib.Path, metavar="FILE", help="for convert and article, which are left out without it")
    add("--out", type=pathlib.Path, required=True, help="directory for a JSON file and a figure of each")
    add("--rows", type=int, default=6_000_000, metavar="N", help="for scale and memory (default 6,000,000)")
    add("--seconds", type=float, default=1.0, help="length of one measurement (default 1)")


def _add_training(parser) -> None:
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="data set directory")
    add("--strategy", choices=STRATEGIES)
    add("--devices", type=int, metavar="N")
    add("--feed", choices=FEEDS)
    add("--scale", choices=SCALES)


def _add_settings(parser) -> None:
    add = parser.add_argument
    add("--precision", choices=PRECISIONS)
    add("--batch-size", type=int, metavar="N", help="global batch, default 256")
    add("--steps-per-call", type=int, metavar="K")


def _add_variants(parser) -> None:
    add = parser.add_argument
    several = "several with commas between"
    add("--precision", dest="precisions", type=_names, default=("auto",), metavar="P", help=f"default auto; {several}")
    add("--batch-size", dest="batch_sizes", type=_counts, default=(256,), metavar="N", help=f"default 256; {several}")
    add("--steps-per-call", dest="step_counts", type=_counts, metavar="K", help="default 1,4,16,64 on GPU, 1,4 on CPU")
    add("--xla", choices=XLA, default="off", help="compile the step; default off")


def _add_measuring(parser) -> None:
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="measurements of each kind, interleaved (default 5)")
    add("--seconds", type=float, default=1.0, help="length of one measurement (default 1)")


def _add_output(parser) -> None:
    add = parser.add_argument
    add("--json", type=pathlib.Path, metavar="FILE", help="write the figures with the machine they were measured on")


def _add_memory(parser) -> None:
    add = parser.add_argument
    add("--rows", type=int, default=6_000_000, metavar="N", help="rows of 28x28, default 6,000,000 (5.2 GB of disk)")
    add("--memory-budget", type=size_argument, default=512 << 20, metavar="SIZE", help="default 512MiB")
    add("--dir", type=pathlib.Path, help="where the shards lie meanwhile; default the system's temporary directory")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor several with commas between") from error
