"""The Keras callbacks that the command line offers; any other can be passed to Trainer.fit."""

import importlib.util

from pipeline.errors import InputError
from pipeline.train.config import TrainConfig


def make_callbacks(config: TrainConfig) -> list:
    """The callbacks that a configuration asks for.

    Raises:
        InputError: one of them needs a package that is not installed.
    """
    if not config.tensorboard:
        return []
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard: python -m pip install -e '.[tensorboard]'")
    import keras

    log_dir = str(config.run_dir / "tensorboard")
    # The loss, accuracy and images/s of an epoch as scalars, and a histogram of every weight.
    return [keras.callbacks.TensorBoard(log_dir, histogram_freq=1, write_graph=False)]
