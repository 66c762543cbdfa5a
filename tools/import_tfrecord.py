"""Import TFRecords that TensorFlow Datasets or another program wrote.

python tools/import_tfrecord.py ~/tensorflow_datasets/mnist/3.0.1 --out data/mnist

Records are tf.train.Examples with `image` (raw bytes of H*W*C, PNG or JPEG) and, optionally, `label` and `id`
(integers). Prints a summary of the data set. The directory appears when it is complete, or not at all.
"""

import argparse
import sys
from collections.abc import Sequence

from pipeline.cli import Parser, run_command
from pipeline.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Import as the command line says; returns the exit code."""
    args = _parser().parse_args(argv)
    from pipeline.convert.config import check_range
    from pipeline.format.manifest import MAX_SHARDS
    from pipeline.train.environment import import_tensorflow

    check_range("--shards", args.shards, MAX_SHARDS)
    shape = tuple(args.image_shape) if args.image_shape else None
    if shape is not None and min(shape) < 1:
        raise InputError(f"--image-shape {' '.join(map(str, shape))} must be three positive integers")
    import_tensorflow()  # before the importer, which imports TensorFlow with all its messages
    from pipeline.convert.importer import import_tfrecords
    from pipeline.format.summary import summary_text

    manifest = import_tfrecords(
        args.directory, args.out, args.shards, shape, args.overwrite, lambda text: print(text, file=sys.stderr)
    )
    print(summary_text(manifest))
    return 0


def _parser() -> argparse.ArgumentParser:
    summary, _, usage = __doc__.partition("\n\n")
    parser = Parser(description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("directory", metavar="DIR", help="holds the TFRecords, such as NAME-train.tfrecord-00000-of-00008")
    add("--out", required=True, metavar="DIR", help="the directory to create")
    add("--shards", type=int, metavar="N", help="files per split (default: about 128 MiB each)")
    add("--image-shape", type=int, nargs=3, metavar=("H", "W", "C"), help="required if raw images are not gray squares")
    add("--overwrite", action="store_true", help="replace the data set in --out, once the new one is complete")
    return parser


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
