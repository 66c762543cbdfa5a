"""Convert images into a data set of sharded TFRecords: CSVs of pixels, IDX, .npz, Parquet, folders of PNG or JPEG.

python tools/csv_to_tfrecord.py --split train=train.csv --split test=test.csv --val-fraction 0.1 --out data/kannada

Prints a summary of the data set. The directory appears when it is complete, or not at all; an invalid file is reported
in one line with file, line and column, and the exit code is 2. Rerun the command to resume an interrupted conversion.
"""

import argparse
import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from pipeline.cli import Parser, add_settings, any_path, run_command, settings_from, with_command_names
from pipeline.convert.config import ConvertConfig
from pipeline.convert.read_options import ReadOptions
from pipeline.data_audit.options import AuditOptions, ConversionAudit
from pipeline.errors import InputError
from pipeline.remote import as_path
from pipeline.status import stopping


def main(argv: Sequence[str] | None = None) -> None:
    """Convert as the command line says."""
    started = time.perf_counter()
    args = _parser().parse_args(argv)
    # After parsing, so that --help and wrong options are answered sooner.
    from pipeline.convert.converter import convert
    from pipeline.format.summary import summary_text, validation_text

    config = settings_from(
        ConvertConfig,
        args,
        splits=tuple(parse_split(text, nameless=args.split_column is not None) for text in args.split),
        read=settings_from(ReadOptions, args),
        labels=tuple(parse_split(text, "--labels") for text in args.labels),
        split_map=tuple(map(_parse_meaning, args.split_map)),
    )
    audit = ConversionAudit(settings_from(AuditOptions, args))
    with stopping("the conversion, which leaves nothing"), _progress_bar() as on_progress:
        manifest = convert(config, on_progress, lambda text: print(with_command_names(text), file=sys.stderr), audit)
    seconds = time.perf_counter() - started
    rows = sum(split.num_examples for split in manifest.splits.values())
    print(summary_text(manifest))
    for line in (validation_text(manifest.validation), *audit.lines):
        print(f"  {line}")
    print(f"wrote {args.out} in {seconds:.2f} s, {rows / seconds:,.0f} rows/s")


def parse_split(text: str, option: str = "--split", nameless: bool = False) -> tuple[str, pathlib.Path]:
    """Split name and file of an option's NAME=FILE; with `nameless` also of FILE, whose name is ""."""
    name, separator, path = text.partition("=")
    if nameless and not separator and text:
        return "", as_path(text)
    if not separator or not path:
        raise InputError(f"{option} {text!r} must be NAME=FILE, as train=train.csv")
    return name, as_path(path)


def _parse_meaning(text: str) -> tuple[str, str]:
    """Value and split of --split-map's VALUE=NAME."""
    value, separator, name = text.rpartition("=")
    if not separator or not name:
        raise InputError(f"--split-map {text!r} must be VALUE=NAME, as Training=train")
    return value, name


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add(
        "--split",
        action="append",
        required=True,
        metavar="NAME=FILE",
        help="a file or folder and its split; repeat it for more. CSV (plain, .gz, .zip, .bz2, .xz, .zst), IDX, .npy, "
        ".npz, Parquet, a folder of images by class, a CSV of file names and labels, x.zip:train.csv, x.npz:x_train "
        "(docs/inputs.md)",
    )
    add("--out", type=any_path, required=True, metavar="DIR", help="the directory to create")
    add("--labels", action="append", default=[], metavar="NAME=FILE", help="labels of a split in a second file")
    add(
        "--split-map",
        nargs="+",
        default=[],
        metavar="VALUE=NAME",
        help="splits that values of --split-column mean; NAME none ignores rows (default: Training=train, ...)",
    )
    add_settings(parser, ConvertConfig)
    add_settings(parser, ReadOptions)
    add_settings(parser, AuditOptions)
    return parser


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A callback that draws a bar if stderr is a terminal, else None."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("converting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, speed="")
        started = time.perf_counter()

        def show(done: int, total: int) -> None:
            speed = done / (time.perf_counter() - started)
            bar.update(task, total=total, completed=done, speed=f"{speed:,.0f} rows/s")

        yield show


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
