"""Whether a start can resume the run in its directory, as far as that is known before TensorFlow is imported."""

from pipeline.errors import InputError
from pipeline.format.manifest import Manifest
from pipeline.train.config import TrainConfig
from pipeline.train.run_dir import RunDirectory, newest_checkpoint
from pipeline.train.stored import StoredRun


def check_resume(config: TrainConfig, manifest: Manifest, in_series: bool = False) -> StoredRun | None:
    """The earlier start of this run, or None; InputError if it was on other data, or so many epochs cannot continue it.

    Missing `weights_from` are refused too, for a run that has not begun.

    With a constant rate a run of 6 epochs is the beginning of one of 12, bit for bit. A rate that falls to the end of
    the run differs from the first step on.
    """
    earlier = None if config.fresh else RunDirectory(config.run_dir).earlier()
    if earlier is None:
        if config.weights_from is not None:
            newest_checkpoint(config.weights_from)
        return None
    identity, run = earlier.identity, config.run_dir
    if identity.data != manifest.sha256:
        given = f"{config.data} ({manifest.split('train').num_examples:,} rows of train)"
        raise InputError(
            f"{run} holds a run on the data set {earlier.data}, and {given} is another or was converted again; "
            "give its --data, another --run-dir, or --fresh to set the run aside"
        )
    if identity.epochs not in (None, config.epochs) and identity.schedule == config.schedule:
        train_on = (
            f"give --fresh to start again, or --weights-from {run} --run-dir {run}-{config.epochs} to train its "
            f"weights for {config.epochs} more"
        )
        raise InputError(
            f"{run} holds a run of {identity.epochs} epoch{'s' * (identity.epochs != 1)}, over which --schedule "
            f"{config.schedule} spreads the learning rate, so it cannot become one of {config.epochs}; "
            f"{'give the series another --run-dir, or --fresh' if in_series else train_on}"
        )
    return earlier
