"""Export the model of a run for TFLite, ONNX or TensorFlow Serving, and compare it with Keras on images of the data.

python tools/export.py --run runs/mine --data data/mine --format tflite --out mine.tflite
python tools/export.py --run runs/mine --data data/mine --format onnx --out mine.onnx
python tools/export.py --run runs/mine --data data/mine --format serving --out models/mine

Every format takes plain pixels, uint8 [n, H, W, C], and gives float32 probabilities in the order of the class names.
`serving` adds the next version, a directory 1, 2, ..., to --out: what TensorFlow Serving takes as a model's base path.
"""

import argparse
from collections.abc import Sequence

from pipeline.cli import Parser, any_path, run_command
from pipeline.errors import InputError
from pipeline.files import check_output_file
from pipeline.status import doing

_ROWS = 100  # compared


def main(argv: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    args = _parser().parse_args(argv)
    from pipeline.evaluate.export import check_packages, export
    from pipeline.evaluate.saved_run import read_run
    from pipeline.feed.stream import read_sample
    from pipeline.format.manifest import load_manifest
    from pipeline.splits import TRAIN
    from pipeline.train.environment import import_tensorflow

    check_packages(args.format)
    if args.format != "serving":
        check_output_file(args.out)
        if args.out.exists() and not args.overwrite:
            raise InputError(f"{args.out}: exists; name another file or use --overwrite")
    run, manifest = read_run(args.run), load_manifest(args.data)
    run.check_fits(str(args.data), manifest.image_shape, manifest.class_names)
    split = TRAIN if TRAIN in manifest.splits else next(iter(manifest.splits))
    images = read_sample(args.data, manifest, split, _ROWS).images.reshape(-1, *manifest.image_shape)
    import_tensorflow()
    with doing("exporting the model"):
        text = export(run, args.format, args.out, images)
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__)
    add, path = parser.add_argument, any_path
    add("--run", type=path, required=True, help="a run directory, written by train.py")
    add("--data", type=path, required=True, help="a data set with images of the run's shape, to compare with Keras")
    add("--format", choices=("tflite", "onnx", "serving"), required=True)
    add("--out", type=path, required=True, help="the file to write; for serving the directory of all versions")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
