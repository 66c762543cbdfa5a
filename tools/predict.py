"""Predict the labels of a split, of a file or of images with a trained run, and write them as Kaggle expects them.

python tools/predict.py --run runs/first --data data/kannada --split test --out submission.csv
python tools/predict.py --run runs/first --csv test.csv --like sample_submission.csv --out submission.csv
python tools/predict.py --run runs/first --run runs/second --tta --csv test.csv --out submission.csv
python tools/predict.py --run runs/first --images a.png b.png

The file has the header id,label and one line per row, in the order of the rows; --like takes header, ids and order from
a sample submission. --images prints a table too.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from pipeline.cli import Parser, add_settings, any_path, flag_of, local_path, run_command, settings_from
from pipeline.convert.read_options import ReadOptions
from pipeline.errors import InputError
from pipeline.status import stopping

_MAX_BATCH_SIZE = 1 << 20


def main(argv: Sequence[str] | None = None) -> None:
    """Predict as the command line says."""
    args = _parse(argv)
    from pipeline.evaluate.sample_submission import Form, read_sample
    from pipeline.evaluate.saved_run import SavedRun, read_runs
    from pipeline.evaluate.sources import Source, open_csv, open_images, open_split
    from pipeline.evaluate.submission import Outputs, check_form, predict_rows
    from pipeline.train.environment import import_tensorflow

    def open_source(run: SavedRun) -> Source:
        if args.images:
            return open_images(run, args.images, args.resize, args.invert)
        return open_csv(run, args.csv, options, args.as_is) if args.csv else open_split(run, args.data, args.split)

    # What can be refused is refused before the seconds that importing TensorFlow takes.
    options = settings_from(ReadOptions, args)
    outputs = Outputs(args.out, args.probabilities, args.grid, args.overwrite)
    outputs.check([path for path in (args.csv, args.like, *args.images) if path is not None])
    form = Form(
        tuple(args.columns) if args.columns else None, args.first_id, read_sample(args.like) if args.like else None
    )
    runs = read_runs(args.run)
    source = open_source(runs[0])
    for note in source.notes:
        print(note, file=sys.stderr)
    check_form(source, form)
    import_tensorflow()
    with stopping("the prediction, which writes nothing"):
        text = predict_rows(runs, source, outputs, args.batch_size, args.tta, form)
    print(text)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    given = [field for field in dataclasses.fields(ReadOptions) if getattr(args, field.name, None) is not None]
    read = [field.metadata.get("flag") or flag_of(field.name) for field in given]
    if args.split and not args.data:
        raise InputError(f"--split {args.split}: only data sets have splits; use --data or omit --split")
    read += ["--as-is"] * args.as_is
    if read and not args.csv:
        raise InputError(f"{read[0]} is for --csv, which tells how a file is read; omit it")
    if (args.resize or args.invert) and not args.images:
        raise InputError("--resize and --invert are for --images; omit them")
    if args.out is None and (not args.images or args.like or args.columns or args.first_id is not None):
        raise InputError("--out is missing: the CSV to write")
    args.split = args.split or "test"
    if not 1 <= args.batch_size <= _MAX_BATCH_SIZE:
        raise InputError(f"--batch-size {args.batch_size}: choose a number of rows from 1 to {_MAX_BATCH_SIZE}")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__)
    path = any_path
    run_help = "a run directory, written by train.py; repeat it to average the probabilities of several runs"
    parser.add_argument("--run", type=path, required=True, action="append", help=run_help)
    tta_help = "test-time augmentation: average over each image and its four shifts by one pixel; five times the work"
    parser.add_argument("--tta", action="store_true", help=tta_help)
    rows = parser.add_argument_group("what is predicted")
    source = rows.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=path, help="a data set's directory, written by tools/csv_to_tfrecord.py")
    csv_help = (
        "a CSV of images, or any other file or folder that tools/csv_to_tfrecord.py reads; labels and ids are used"
    )
    source.add_argument("--csv", type=path, help=csv_help)
    as_is = "with --csv: numbers are pixels, even if those of the training data were scaled or turned"
    rows.add_argument("--as-is", action="store_true", help=as_is)
    source.add_argument(
        "--images", type=local_path, nargs="+", default=[], metavar="FILE", help="PNG, JPEG and the like"
    )
    rows.add_argument("--split", help="with --data: the split to predict (default: test)")
    rows.add_argument(
        "--resize", action="store_true", help="with --images: resize them to the size of the run's images"
    )
    rows.add_argument("--invert", action="store_true", help="with --images: swap black and white")
    write = parser.add_argument_group("what is written").add_argument
    write("--out", type=path, help="the CSV to write: id,label (with --images, optional)")
    write("--like", type=path, metavar="SAMPLE", help="a sample submission, whose header, ids and order --out gets")
    write("--columns", nargs=2, metavar=("ID", "LABEL"), help="names for its header (default: id label)")
    write("--first-id", type=int, metavar="N", help="id of the first row, of rows without ids (default: 0)")
    write("--probabilities", type=path, help="a CSV to write: id and a column for each class, in the order of the rows")
    write("--grid", type=path, help="a PNG to write: images with predictions, the wrong ones marked")
    write("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--batch-size", type=int, default=1024, help="rows predicted at a time (default: 1024)")
    add_settings(parser, ReadOptions)
    return parser


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
