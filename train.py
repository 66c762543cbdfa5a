"""Train a classifier on a data set that tools/csv_to_tfrecord.py wrote.

    python train.py                                  # makes sample data first, then trains on it
    python train.py --data data/kannada --strategy mirrored --run-dir runs/first

The same command again resumes a run that was stopped.
"""

import pathlib
from collections.abc import Sequence

from pipeline.cli import Parser, add_settings, run_command, settings_from
from pipeline.train.config import TrainConfig

SAMPLE_DIR = pathlib.Path("data/sample")
# 10,800 images: small batches and few epochs, so that a first look takes about two minutes on two cores.
FIRST_LOOK = {"data": SAMPLE_DIR, "batch_size": 64, "epochs": 2}


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    config = parse_config(argv)
    if config.data == SAMPLE_DIR and not SAMPLE_DIR.exists():
        from pipeline.sample.dataset import make_sample_dataset

        make_sample_dataset(SAMPLE_DIR, quiet=config.log_json)
    return train(config)


def train(config: TrainConfig) -> int:
    """Train, evaluate and report; returns 0, or 128 plus the signal that stopped the run."""
    from pipeline.format.manifest_file import load_manifest
    from pipeline.train.environment import import_tensorflow
    from pipeline.train.run_dir import RunDirectory

    manifest = load_manifest(config.data)
    import_tensorflow()
    from pipeline.train.callbacks import make_callbacks
    from pipeline.train.devices import make_devices

    callbacks = make_callbacks(config)
    devices = make_devices(config.strategy, config.devices)
    with RunDirectory(config.run_dir) as run, devices.watching_workers():
        return _train(config, manifest, devices, run, callbacks)


def _train(config: TrainConfig, manifest, devices, run, callbacks) -> int:
    from pipeline.train import setup
    from pipeline.train.checkpoint import CheckpointStore
    from pipeline.train.loop import LoopConfig
    from pipeline.train.progress import Reporter
    from pipeline.train.stop import StopRequested, listen_for_stop

    reporter = Reporter(config.log_json, quiet=not devices.is_chief)
    resolved = setup.make_run_plan(config, manifest, devices, None if config.fresh else run.identity())
    model, optimizer = setup.make_model(resolved, devices)
    _claim(run, resolved.describe(devices, model), config, devices, reporter)
    _announce(resolved, devices, reporter)

    trainer = setup.make_trainer(resolved, devices, model, optimizer, reporter)
    # Other workers read checkpoints too, so there each is on the disk before the next step.
    store = CheckpointStore(run.checkpoints, config.keep_checkpoints, in_background=devices.num_workers == 1)
    state = _restore(store, model, optimizer, devices, reporter)
    loop = LoopConfig(config.epochs, config.patience, config.checkpoint_every, config.recover)
    chief = devices.is_chief
    with listen_for_stop() as stop:
        try:
            state = trainer.fit(
                loop,
                state,
                store,
                callbacks if chief else (),
                stop,
                on_epoch=lambda state: run.write_history(state.history) if chief else None,
            )
        except StopRequested as stopped:
            reporter.line(str(stopped))
            devices.wait_for_all()
            return stopped.exit_code
    try:
        if chief:
            # A run killed after its last checkpoint has not written this yet.
            run.write_history(state.history)
            if config.patience is not None and not store.restore_best(model):
                reporter.line("the best checkpoint cannot be read; the report is on the last weights")
            _report(run, model, resolved, state.history, config, reporter)
    finally:
        # Workers leave together: one that is gone looks to the others like one that died.
        devices.wait_for_all()
    return 0


def _claim(run, description, config: TrainConfig, devices, reporter) -> None:
    """Take the run directory as the chief, and find it taken for the same run on every other worker."""
    if devices.is_chief:
        for remark in run.claim(description, config.fresh):
            reporter.line(remark)
    devices.wait_for_all()  # before this, a worker might see what the chief sets aside
    if not devices.is_chief:
        run.check(description)


def _restore(store, model, optimizer, devices, reporter):
    """The state to go on from, from the newest checkpoint or the start, and the same on every worker."""
    state, remarks = store.restore_newest(model, optimizer)
    for remark in remarks:
        reporter.line(remark)
    devices.check_same(state.global_step)
    if state.global_step:
        reporter.line(f"resumed at epoch {state.epoch + 1}, step {state.step}", global_step=state.global_step)
    return state


def _announce(resolved, devices, reporter) -> None:
    from pipeline.train.devices import precision_remark

    config, steps = resolved.config, resolved.steps
    reporter.line(f"{devices.describe()}; {resolved.precision}; run directory {config.run_dir}")
    if devices.accelerator == "CPU" and pathlib.Path("/proc/driver/nvidia").exists():
        reporter.line("an NVIDIA driver is here, but TensorFlow sees no GPU; python -m pip install -e '.[cuda]'")
    if remark := precision_remark(resolved.precision, devices.accelerator):
        reporter.line(remark)
    reporter.line(resolved.plan.describe())
    padding = f"; the last one has {steps.padding} places of padding, with weight 0" if steps.padding else ""
    reporter.line(
        f"{steps.num_examples:,} images an epoch, each once, in {steps.per_epoch} steps of {config.batch_size}"
        f" ({config.batch_size // devices.replicas.total} a replica), {steps.steps_per_call} a call{padding}"
    )


def _report(run, model, resolved, history, config, reporter) -> None:
    from pipeline.evaluate.report import write_report
    from pipeline.train.setup import make_inference_model

    twin = make_inference_model(model, resolved.manifest)
    evaluations = write_report(
        run.path,
        twin,
        resolved.manifest,
        config.data,
        resolved.normalization,
        history,
        batch_size=min(1024, config.batch_size),  # what training has shown to fit, or less
        quiet=config.log_json,
    )
    for found in evaluations if config.log_json else ():
        reporter.line("", event="evaluation", split=found.split, loss=found.loss, accuracy=found.accuracy)
    reporter.line(f"model, evaluation and figures are in {run.path}", event="done", run_dir=str(run.path))


def parse_config(argv: Sequence[str] | None) -> TrainConfig:
    """The configuration that a command line asks for."""
    parser = Parser(prog="train.py", description=__doc__)
    add_settings(parser, TrainConfig)
    args = parser.parse_args(argv)
    if args.data is None:
        parser.set_defaults(**FIRST_LOOK)
        args = parser.parse_args(argv)
    run_dir = args.run_dir or pathlib.Path("runs") / (args.data.resolve().name or "run")
    return settings_from(TrainConfig, args, run_dir=run_dir)


if __name__ == "__main__":
    run_command(main)
