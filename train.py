"""Train a classifier on a data set that tools/csv_to_tfrecord.py wrote.

    python train.py                                  # makes sample data first, then trains on it
    python train.py --data data/kannada --strategy mirrored --run-dir runs/first

Rerun the same command to resume a stopped run.
"""

import pathlib
from collections.abc import Sequence

from pipeline.api.run import train
from pipeline.cli import Parser, add_settings, any_path, run_command, settings_from
from pipeline.train.config import TrainConfig
from pipeline.train.recipe import DEFAULT, RECIPES, read_recipe
from pipeline.train.settings_file import read_settings

SAMPLE_DIR = pathlib.Path("data/sample")
# 10,800 images: small batches and few epochs, so that a first look takes about two minutes on two cores.
FIRST_LOOK = {"data": SAMPLE_DIR, "batch_size": 64, "epochs": 6}


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    config = parse_config(argv)
    if config.data == SAMPLE_DIR and not SAMPLE_DIR.exists():
        from pipeline.sample.dataset import make_sample_dataset

        make_sample_dataset(SAMPLE_DIR, quiet=config.log_json)
    return train(config)


def parse_config(argv: Sequence[str] | None) -> TrainConfig:
    """The configuration that a command line asks for: its options, then those of --config, then the recipe's."""
    parser = Parser(description=__doc__)
    recipes = f"{', '.join(RECIPES)}, or a TOML or JSON file such as a run's config.json (default: {DEFAULT})"
    parser.add_argument("--recipe", metavar="NAME", help=recipes)
    files = "any of these settings, in TOML or in JSON such as a run's config.json; options given here win"
    parser.add_argument("--config", type=any_path, metavar="FILE", help=files)
    add_settings(parser, TrainConfig)
    args = parser.parse_args(argv)
    settings = read_settings(args.config, TrainConfig, "a training", ["recipe"]) if args.config else {}
    recipe = args.recipe or settings.pop("recipe", DEFAULT)
    first_look = {} if args.data or "data" in settings else FIRST_LOOK
    for name, value in {**first_look, **read_recipe(recipe), **settings}.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    run_dir = args.run_dir or pathlib.Path("runs") / (args.data.resolve().name or "run")
    return settings_from(TrainConfig, args, run_dir=run_dir)


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
