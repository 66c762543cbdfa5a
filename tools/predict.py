"""Predict the labels of a split or a CSV with a trained run, and write them as Kaggle expects them.

python tools/predict.py --run runs/first --data data/kannada --split test --out submission.csv
python tools/predict.py --run runs/first --csv test.csv --out submission.csv
python tools/predict.py --run runs/first --run runs/second --tta --csv test.csv --out submission.csv

The file has the header id,label and one line per row, in the order of the CSV.
"""

import argparse
import pathlib
from collections.abc import Sequence

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError

_MAX_BATCH_SIZE = 1 << 20


def main(argv: Sequence[str] | None = None) -> None:
    """Predict as the command line says."""
    args = _parse(argv)
    from pipeline.evaluate.saved_run import read_runs
    from pipeline.evaluate.submission import Outputs, open_csv, open_split, predict_rows
    from pipeline.train.environment import import_tensorflow

    # What can be refused is refused before the seconds that importing TensorFlow takes.
    outputs = Outputs(args.out, args.probabilities, args.grid, args.overwrite)
    outputs.check(source=args.csv)
    runs = read_runs(args.run)
    if args.csv:
        options = {"label_column": args.label_column, "id_column": args.id_column, "has_header": not args.no_header}
        source = open_csv(runs[0], args.csv, **options)
    else:
        source = open_split(runs[0], args.data, args.split)
    import_tensorflow()
    print(predict_rows(runs, source, outputs, args.batch_size, args.tta))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = pathlib.Path
    run_help = "a run directory, written by train.py; repeat it to average the probabilities of several runs"
    parser.add_argument("--run", type=path, required=True, action="append", help=run_help)
    tta_help = "test-time augmentation: average over each image and its four shifts by one pixel; five times the work"
    parser.add_argument("--tta", action="store_true", help=tta_help)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=path, help="a data set's directory, written by tools/csv_to_tfrecord.py")
    source.add_argument("--csv", type=path, help="a CSV of images, with or without the columns id and label")
    parser.add_argument("--split", help="with --data: the split to predict (default: test)")
    parser.add_argument("--no-header", action="store_true", help="with --csv: its first line is data")
    column = "with --csv: the {}'s column, by name or 0-based index, or none (default: by its usual names)"
    parser.add_argument("--label-column", metavar="COLUMN", help=column.format("label"))
    parser.add_argument("--id-column", metavar="COLUMN", help=column.format("id"))
    parser.add_argument("--out", type=path, required=True, help="the CSV to write: id,label")
    parser.add_argument("--probabilities", type=path, help="a CSV to write: id and a column for each class")
    parser.add_argument("--grid", type=path, help="a PNG to write: images with predictions, the wrong ones marked")
    parser.add_argument("--batch-size", type=int, default=1024, help="rows predicted at a time (default: 1024)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    args = parser.parse_args(argv)
    if args.csv and args.split:
        raise InputError(f"--split {args.split}: a CSV has no splits; use --data or omit --split")
    if args.data and (args.no_header or args.label_column or args.id_column):
        raise InputError("--no-header, --label-column and --id-column are for a CSV; omit them with --data")
    args.split = args.split or "test"
    if not 1 <= args.batch_size <= _MAX_BATCH_SIZE:
        raise InputError(f"--batch-size {args.batch_size}: choose a number of rows from 1 to {_MAX_BATCH_SIZE}")
    return args


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
