"""Import TFRecords that another program wrote, or a data set of TensorFlow Datasets.

python tools/import_tfrecord.py ~/tensorflow_datasets/mnist/3.0.1 --out data/mnist --val-fraction 0.1
python tools/import_tfrecord.py --tfds mnist --out data/mnist

Records are tf.train.Examples, plain or compressed (GZIP, ZLIB), with an image (raw bytes of H*W*C, PNG or JPEG) and,
optionally, a label (a number or a name) and an id. Features are found by their usual names; a refusal lists those that
a record has. Prints a summary of the data set. The directory appears when it is complete, or not at all.
"""

import argparse
import sys
from collections.abc import Sequence

from pipeline.cli import Parser, add_settings, run_command, settings_from
from pipeline.data_audit.options import AuditOptions, ConversionAudit


def main(argv: Sequence[str] | None = None) -> int:
    """Import as the command line says; returns the exit code."""
    args = _parser().parse_args(argv)
    from pipeline.convert.read_options import ReadOptions
    from pipeline.convert.tfrecords.config import ImportConfig
    from pipeline.train.environment import import_tensorflow

    # Before the import: a wrong option or a missing path is reported at once.
    config = settings_from(ImportConfig, args, read=settings_from(ReadOptions, args))
    audit = ConversionAudit(settings_from(AuditOptions, args))
    import_tensorflow()
    from pipeline.convert.tfrecords.importer import import_dataset
    from pipeline.format.summary import summary_text, validation_text

    manifest = import_dataset(config, lambda text: print(text, file=sys.stderr), audit)
    print(summary_text(manifest))
    if config.val_fraction is not None:
        print(f"  {validation_text(manifest.validation)}")
    for line in audit.lines:
        print(f"  {line}")
    return 0


def _parser() -> argparse.ArgumentParser:
    from pipeline.convert.read_options import ImageOptions
    from pipeline.convert.tfrecords.config import ImportConfig

    parser = Parser(description=__doc__)
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="holds TFRecords, or folders train, test, ... of them"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the directory to create")
    add_settings(parser, ImportConfig)
    add_settings(parser, ImageOptions)
    add_settings(parser, AuditOptions)
    return parser


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
