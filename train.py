"""Train a classifier on a data set that tools/csv_to_tfrecord.py wrote.

    python train.py                                  # makes sample data first, then trains on it
    python train.py --data data/kannada --strategy mirrored --run-dir runs/first

Rerun the same command to resume a stopped run.
"""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli import Parser, add_settings, run_command, settings_from
from pipeline.train.config import TrainConfig
from pipeline.train.recipe import DEFAULT, RECIPES, read_recipe

if TYPE_CHECKING:
    import keras

    from pipeline.train.progress import Reporter
    from pipeline.train.run_plan import RunPlan

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


def train(config: TrainConfig) -> int:
    """Train, evaluate and report; returns 0, or 128 plus the signal that stopped the run."""
    # Imported here, so that --help and wrong options are answered without waiting seconds for TensorFlow.
    from pipeline.format.manifest import load_manifest
    from pipeline.train.environment import import_tensorflow

    manifest = load_manifest(config.data)  # a wrong --data is reported before TensorFlow is imported
    import_tensorflow()
    from pipeline.train import setup
    from pipeline.train.devices import make_devices
    from pipeline.train.progress import Reporter, StopRequested, listen_for_stop
    from pipeline.train.run_dir import RunDirectory
    from pipeline.train.run_plan import make_run_plan

    callbacks = setup.make_callbacks(config)
    devices = make_devices(config.strategy, config.devices)
    chief = devices.is_chief
    reporter = Reporter(config.log_json, quiet=not chief)
    with RunDirectory(config.run_dir) as run, devices.watching_workers():
        plan = make_run_plan(config, manifest, devices, None if config.fresh else run.earlier())
        model, optimizer = setup.make_model(plan, devices)
        store = setup.claim_run(run, plan, devices, model, reporter)
        for line in plan.announcement(devices):
            reporter.line(line)
        trainer = setup.make_trainer(plan, devices, model, optimizer, store, reporter)
        state = trainer.restore()
        try:
            with listen_for_stop() as stop:
                state = trainer.fit(state, callbacks if chief else (), stop, run.write_history if chief else None)
        except StopRequested as stopped:
            devices.wait_for_all()
            return stopped.exit_code
        try:
            if config.patience is not None and not store.restore_best(model, optimizer):
                reporter.line("the best checkpoint cannot be read; the results are of the last weights")
            with trainer.averaged_weights():
                if chief:
                    # A run killed after its last checkpoint has not written this yet.
                    run.write_history(state.history)
                    write_results(run.path, plan, model, state.history, reporter)
        finally:
            # Workers leave together: to the others, one that has left looks like one that died.
            devices.wait_for_all()
    return 0


def write_results(
    run_dir: pathlib.Path, plan: "RunPlan", model: "keras.Model", history: list[Any], reporter: "Reporter"
) -> None:
    """Evaluate and export the model, and draw the figures of the run."""
    from pipeline.evaluate.metrics import print_evaluations
    from pipeline.evaluate.report import write_report
    from pipeline.train.setup import make_inference_model

    config = plan.config
    evaluations, calibration = write_report(
        run_dir,
        make_inference_model(model, plan),
        plan.manifest,
        config.data,
        plan.normalization,
        history,
        batch_size=min(1024, config.batch_size),  # training has shown that this many fit
        holdout=plan.holdout,
    )
    if not config.log_json:
        print_evaluations(evaluations)
        if calibration is not None:
            print(calibration.text)
    for result in evaluations if config.log_json else ():
        groups = {"groups": result.groups.to_dict()} if result.groups else {}
        figures = {"split": result.split, "loss": result.loss, "accuracy": result.accuracy}
        figures |= {"ece": result.ece, **groups}
        reporter.line("", event="evaluation", **figures)
    reporter.line(f"model, evaluation and figures are in {run_dir}", event="done", run_dir=str(run_dir))


def parse_config(argv: Sequence[str] | None) -> TrainConfig:
    """The configuration that a command line asks for."""
    parser = Parser(prog="train.py", description=__doc__)
    recipes = f"{', '.join(RECIPES)}, or a JSON file such as a run's config.json (default: {DEFAULT})"
    parser.add_argument("--recipe", default=DEFAULT, metavar="NAME", help=recipes)
    add_settings(parser, TrainConfig)
    args = parser.parse_args(argv)
    if args.data is None:
        parser.set_defaults(**FIRST_LOOK)
    parser.set_defaults(**read_recipe(args.recipe))
    args = parser.parse_args(argv)
    run_dir = args.run_dir or pathlib.Path("runs") / (args.data.resolve().name or "run")
    return settings_from(TrainConfig, args, run_dir=run_dir)


def cli() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    cli()
