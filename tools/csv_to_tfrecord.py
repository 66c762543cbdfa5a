"""Convert CSVs of images, one row each, into a data set of sharded TFRecords.

python tools/csv_to_tfrecord.py --split train=train.csv --split test=test.csv --val-fraction 0.1 --out data/kannada

Prints what it made. The directory appears when it is complete, or not at all; a mistake in the files is one line that
names the file, the line and the column, and the exit code is 2.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    started = time.perf_counter()
    args = _parser().parse_args(argv)
    from pipeline.convert.converter import ConvertConfig, convert
    from pipeline.format.summary import summary_text, validation_text

    config = ConvertConfig(
        splits=tuple(map(_split, args.split)),
        out=args.out,
        shards=args.shards,
        seed=args.seed,
        val_fraction=0.0 if args.val_fraction is None else args.val_fraction,
        val_group_size=args.val_group_size,
        image_shape=tuple(args.image_shape) if args.image_shape else None,
        has_header=not args.no_header,
        label_column=args.label_column,
        id_column=args.id_column,
        overwrite=args.overwrite,
    )
    if args.val_fraction == 0:
        raise InputError("--val-fraction 0 must lie between 0 and 1; leave it out to take no rows")
    with _progress_bar() as on_progress:
        manifest = convert(config, on_progress, lambda text: print(text, file=sys.stderr))
    seconds = time.perf_counter() - started
    rows = sum(split.num_examples for split in manifest.splits.values())
    print(summary_text(manifest))
    print(f"  {validation_text(manifest.validation)}")
    print(f"wrote {args.out} in {seconds:.2f} s, {rows / seconds:,.0f} rows/s")


def _parser() -> argparse.ArgumentParser:
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--split",
        action="append",
        required=True,
        metavar="NAME=FILE",
        help="a CSV, plain or in .gz or .zip, and the split it is of; repeat it for other splits and for more files",
    )
    add("--out", required=True, metavar="DIR", help="the directory to make")
    add("--val-fraction", type=float, metavar="F", help="share of train to take as the split val, of each class alike")
    add("--val-group-size", type=int, metavar="G", help="take val in blocks of G rows, where those belong together")
    add("--shards", type=int, default=8, metavar="N", help="files for each split (default: %(default)s)")
    add("--seed", type=int, default=0, help="which rows become val (default: %(default)s)")
    add("--image-shape", type=int, nargs=3, metavar=("H", "W", "C"), help="needed unless images are square and gray")
    add("--no-header", action="store_true", help="the first line is data")
    add("--label-column", metavar="COLUMN", help="name or 0-based index, or none (default: label, class, digit, ...)")
    add("--id-column", metavar="COLUMN", help="name or 0-based index, or none (default: id, image_id, index, ...)")
    add("--overwrite", action="store_true", help="replace the data set in DIR, once the new one is complete")
    return parser


def _split(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator or not path:
        raise InputError(f"--split {text!r} must be NAME=FILE, as train=train.csv")
    return name, path


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable | None]:
    """A callback that draws a bar on a terminal; None where stderr is none."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("converting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, speed="")
        started = time.perf_counter()

        def show(progress) -> None:
            speed = progress.num_rows / (time.perf_counter() - started)
            bar.update(task, total=progress.num_bytes, completed=progress.bytes_read, speed=f"{speed:,.0f} rows/s")

        yield show


if __name__ == "__main__":
    run_command(main)
