"""Draw handwritten Kannada numerals into a CSV in the layout of Kaggle's train.csv.

    python tools/make_sample_csv.py train.csv --rows 12000 --seed 1
    python tools/make_sample_csv.py test.csv --rows 2000 --seed 2

Draws about 2,000 rows per second. The same numbers give the same rows; another seed has other writers.
"""

from collections.abc import Sequence

from pipeline.cli import Parser, run_command
from pipeline.sample.dataset import write_sample_csv


def main(argv: Sequence[str] | None = None) -> None:
    """Write the CSV that the command line describes."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("out", metavar="OUT", help="the CSV file to write; an old one is replaced")
    add("--rows", type=int, default=12_000, help="number of images (default: %(default)s)")
    add("--seed", type=int, default=0, help="which writers, and how they write (default: %(default)s)")
    args = parser.parse_args(argv)
    path = write_sample_csv(args.out, args.rows, args.seed)
    print(f"{path}: {args.rows:,} rows, seed {args.seed}")


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
