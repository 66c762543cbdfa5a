"""A training from its configuration to its results, one run or a series: what train.py and `pipeline.train` do."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import InputError
from pipeline.mirror import Mirror, with_urls
from pipeline.remote import is_remote
from pipeline.status import doing, reported_to
from pipeline.train.config import TrainConfig, check_patience

if TYPE_CHECKING:
    import keras

    from pipeline.format.manifest import Manifest
    from pipeline.train.devices import Devices
    from pipeline.train.progress import Reporter
    from pipeline.train.run_plan import RunPlan
    from pipeline.train.state import TrainState
    from pipeline.train.stored import StoredRun


def train(config: TrainConfig, callbacks: "Sequence[keras.callbacks.Callback]" = ()) -> int:
    """Train, evaluate and report, one run or a series; returns 0, or 128 plus the signal that stopped it.

    `callbacks` are given to every run, besides those that the configuration names. A run directory in an object store
    is worked on in a local copy, which is stored with every checkpoint.
    """
    if not is_remote(config.run_dir):
        return _train(config, callbacks)
    mirror = Mirror(config.run_dir)
    mirror.pull()
    try:
        return _train(dataclasses.replace(config, run_dir=mirror.path), callbacks, mirror)
    except InputError as error:
        raise InputError(with_urls(str(error))) from error
    finally:
        mirror.finish()


def _train(config: TrainConfig, callbacks: "Sequence[keras.callbacks.Callback]", mirror: Mirror | None = None) -> int:
    # Imported here, so that --help and wrong options are answered without waiting seconds for TensorFlow.
    from pipeline.format.local_copy import copy_to_cache
    from pipeline.format.manifest import load_manifest
    from pipeline.train.environment import import_tensorflow
    from pipeline.train.progress import Reporter
    from pipeline.train.resume import check_resume
    from pipeline.train.series import check_directory, kind_of, runs_of

    manifest = load_manifest(config.data)  # a wrong --data is reported before TensorFlow is imported
    check_patience(config, manifest)
    is_series = kind_of(config) is not None
    earlier = [check_resume(run, manifest, is_series) for run in runs_of(config)]
    if is_series:
        check_directory(config)
    # Which worker this is becomes known with TensorFlow.
    with reported_to(Reporter(config.log_json, quiet=bool(os.environ.get("TF_CONFIG"))).activity):
        import_tensorflow()
    import keras

    from pipeline.train.devices import make_devices

    devices = make_devices(config.strategy, config.devices)
    reporter = Reporter(config.log_json, quiet=not devices.is_chief)
    with devices.watching_workers(), reported_to(reporter.activity):
        if config.cache_dir is not None:
            with doing(f"copying {manifest.name} to {config.cache_dir}"):
                config = dataclasses.replace(config, data=copy_to_cache(config.data, manifest, config.cache_dir))
        for run, before in zip(runs_of(config), earlier, strict=True):
            if is_series:
                reporter.line(f"run {run.run_dir.name} of {config.run_dir}", event="run", run_dir=str(run.run_dir))
            # Keras numbers the names of layers in a process; checkpoints of a run must not depend on the runs before.
            keras.utils.clear_session()
            if code := train_run(run, manifest, devices, reporter, before, callbacks, is_series, mirror):
                return code
        if is_series:
            try:
                if devices.is_chief:
                    write_series(config, manifest, reporter)
            finally:
                devices.wait_for_all()
    return 0


def train_run(
    config: TrainConfig,
    manifest: "Manifest",
    devices: "Devices",
    reporter: "Reporter",
    earlier: "StoredRun | None",
    callbacks: "Sequence[keras.callbacks.Callback]",
    skip_finished: bool,
    mirror: Mirror | None,
) -> int:
    """Train one run and write its results; returns 0, or 128 plus the signal that stopped it."""
    from pipeline.evaluate.metrics import FILE_NAME
    from pipeline.train import setup
    from pipeline.train.callbacks import make_callbacks
    from pipeline.train.checkpoint import load_weights
    from pipeline.train.progress import StopRequested, listen_for_stop
    from pipeline.train.run_dir import RunDirectory
    from pipeline.train.run_plan import make_run_plan

    with RunDirectory(config.run_dir) as run:
        plan = make_run_plan(config, manifest, devices, earlier)
        listeners = make_callbacks(plan, devices.is_chief, callbacks)
        with doing("building the network"):
            model, optimizer = setup.make_model(plan, devices)
        # Before the directory becomes this run's, which weights of another network would leave unusable.
        if config.weights_from is not None and (config.fresh or not any(run.checkpoints.glob("*.npz"))):
            load_weights(config.weights_from, model)
            reporter.line(f"starting from the weights of {config.weights_from}")
        store = setup.claim_run(run, plan, devices, model, reporter, mirror)
        for line in plan.announcement(devices):
            reporter.line(line)
        with doing("loading the data"):
            trainer = setup.make_trainer(plan, devices, model, optimizer, store, reporter)
        state = trainer.restore()
        if state.epoch > config.epochs:
            reporter.line(f"the run has {state.epoch} epochs already, and --epochs {config.epochs} takes none away")
        results = run.path / FILE_NAME
        if not trainer.finished(state):
            results.unlink(missing_ok=True)  # those of fewer epochs would make a series skip this run
        elif skip_finished and results.exists():
            reporter.line(f"{run.path} is complete")
            return 0
        try:
            with listen_for_stop() as stop:
                state = trainer.fit(state, listeners, stop, run.write_history if devices.is_chief else None)
        except StopRequested as stopped:
            devices.wait_for_all()
            return stopped.exit_code
        try:
            if config.patience is not None and not store.restore_best(model, optimizer):
                reporter.line("the best checkpoint cannot be read; the results are of the last weights")
            with trainer.averaged_weights():
                if devices.is_chief:
                    run.write_history(state)  # which a kill after the last checkpoint kept from being written
                    write_results(run.path, plan, model, state, reporter)
        finally:
            # Workers leave together: to the others, one that has left looks like one that died.
            devices.wait_for_all()
    return 0


def write_results(
    run_dir: pathlib.Path, plan: "RunPlan", model: "keras.Model", state: "TrainState", reporter: "Reporter"
) -> None:
    """Evaluate and export the model, draw the figures of the run, and write its page."""
    from pipeline.api.page import write_page
    from pipeline.evaluate.curves import curves
    from pipeline.evaluate.metrics import print_evaluations
    from pipeline.evaluate.report import FIGURES_NAME, draw_augmented, write_report
    from pipeline.train.setup import make_inference_model

    config = plan.config
    evaluations, calibration = write_report(
        run_dir,
        make_inference_model(model, plan),
        plan.manifest,
        config.data,
        plan.normalization,
        batch_size=min(1024, config.batch_size),  # training has shown that this many fit
        holdout=plan.holdout,
    )
    curves(state.history, [row.figures() for row in state.step_rows], run_dir / FIGURES_NAME)
    draw_augmented(run_dir, plan.manifest, config.data, plan.augmentation, config.seed, plan.dark_background)
    page = write_page(run_dir)
    if not config.log_json:
        print_evaluations(evaluations)
        if calibration is not None:
            print(calibration.text)
    for result in evaluations if config.log_json else ():
        groups = {"groups": result.groups.to_dict()} if result.groups else {}
        figures = {"split": result.split, "loss": result.loss, "accuracy": result.accuracy}
        figures |= {"ece": result.ece, **groups}
        reporter.line("", event="evaluation", **figures)
    line = f"model, evaluation and figures are in {run_dir}; see {page}"
    reporter.line(line, event="done", run_dir=str(run_dir))


def write_series(config: TrainConfig, manifest: "Manifest", reporter: "Reporter") -> None:
    """Evaluate the runs of a series together."""
    from pipeline.api.page import write_series_page
    from pipeline.evaluate.series import write_folds, write_seeds
    from pipeline.feed.holdout import Holdout
    from pipeline.files import remove_stale
    from pipeline.train.series import FOLD, kind_of, runs_of

    remove_stale(config.run_dir)  # left by a kill while this was written
    runs = runs_of(config)
    holdouts = [Holdout.choose(run.holdout, run.final, run.group_size, manifest) for run in runs]
    paths = [run.run_dir for run in runs]
    more = manifest, config.data, min(1024, config.batch_size)
    with doing("evaluating the runs together"):
        if kind_of(config) == FOLD:
            series = write_folds(config.run_dir, paths, holdouts, *more)
        else:
            series = write_seeds(config.run_dir, paths, holdouts[0], *more)
    for line in series.table():
        reporter.line(line)
    page = write_series_page(config.run_dir, series.label)
    where = f"the series is in {config.run_dir}; see {page}"
    reporter.line(where, event="series", run_dir=str(config.run_dir), **series.figures())
