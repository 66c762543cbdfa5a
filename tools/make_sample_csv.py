"""Draw handwritten Kannada numerals from our own strokes into a CSV laid out as Kaggle's train.csv.

    python tools/make_sample_csv.py train.csv --rows 12000 --seed 1
    python tools/make_sample_csv.py test.csv --rows 2000 --seed 2

A second's work makes some 2,000 rows. The same numbers give the same rows; another seed has other writers.
"""

import argparse
from collections.abc import Sequence

from pipeline.cli import Parser, run_command
from pipeline.sample import write_sample_csv
from pipeline.sample.draw import ROWS_PER_WRITER


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="the CSV file to write; an old one is replaced")
    parser.add_argument("--rows", type=int, default=12_000, help="number of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which writers, and how they write (default: %(default)s)")
    parser.add_argument(
        "--rows-per-writer",
        type=int,
        default=ROWS_PER_WRITER,
        help="rows in sequence that one writer writes (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    path = write_sample_csv(args.out, args.rows, args.seed, args.rows_per_writer)
    writers = -(-args.rows // args.rows_per_writer)
    print(f"{path}: {args.rows:,} rows by {writers:,} writer{'s' if writers > 1 else ''}, seed {args.seed}")


if __name__ == "__main__":
    run_command(main)
