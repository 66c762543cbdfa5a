"""The Keras callbacks of a run: those that settings name, and what they may do in this loop."""

import importlib
import importlib.util
from collections.abc import Iterable, Sequence

import keras

from pipeline.errors import InputError
from pipeline.train.config import TrainConfig, parse_callback
from pipeline.train.run_plan import RunPlan
from pipeline.train.stored import EpochRow
from pipeline.train.tensorboard import FOLDER, Profile, StepBoard
from pipeline.train.trackers import make_tracker

_SET_THE_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
# What they know follows from the history, so they are shown it again when a run resumes.
_REPLAYED = (*_SET_THE_RATE, keras.callbacks.EarlyStopping)


def make_callbacks(
    plan: RunPlan, is_chief: bool = True, given: Sequence[keras.callbacks.Callback] = ()
) -> list[keras.callbacks.Callback]:
    """Those given and those that the configuration asks for; those that only report are the chief's alone.

    Raises:
        InputError: one of them needs a package that is not installed, cannot be made, or cannot work here.
    """
    config = plan.config
    if not (isinstance(given, Sequence) and all(isinstance(one, keras.callbacks.Callback) for one in given)):
        raise InputError(f"callbacks is {given!r}; give a list of objects of keras.callbacks.Callback")
    for callback in given:
        _check(callback, config, type(callback).__name__)
    callbacks = [*given, *(_load(text, config) for text in config.callback)]
    if is_chief and config.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise InputError("--tensorboard needs the package tensorboard: python -m pip install -e '.[tensorboard]'")
        callbacks.append(StepBoard(plan))
    if is_chief and config.profile:
        callbacks.append(Profile(str(config.run_dir / FOLDER), config.profile, plan.steps, config.epochs))
    return callbacks + [make_tracker(name, plan) for name in config.log_to if is_chief]


def _check(callback: keras.callbacks.Callback, config: TrainConfig, text: str) -> None:
    """InputError, with the option to use instead, if this loop or this configuration leaves a callback no effect."""
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        raise InputError(f"{text}: every run resumes by itself if its command is repeated; omit it")
    if isinstance(callback, keras.callbacks.SwapEMAWeights):
        raise InputError(f"{text}: use --ema, whose average is evaluated and exported")
    if isinstance(callback, keras.callbacks.EarlyStopping) and callback.restore_best_weights:
        raise InputError(f"{text}: use --patience N, which also gives the results the best weights")
    if isinstance(callback, _SET_THE_RATE):
        if config.schedule != "constant":
            raise InputError(
                f"{text}: sets the learning rate, as --schedule {config.schedule} does; add --schedule constant"
            )
        if config.recover:
            raise InputError(f"{text}: sets the learning rate, as --recover does; omit one of them")


def start_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
    model: keras.Model,
    config: TrainConfig,
    steps_per_epoch: int,
    history: Sequence[EpochRow],
) -> keras.callbacks.CallbackList:
    """The callbacks of a start of training, told that it begins, in the state they had after these epochs."""
    listeners = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=config.epochs, steps=steps_per_epoch, verbose=0
    )
    model.stop_training = False
    listeners.on_train_begin()
    _replay(callbacks, history, model.optimizer, config.peak_learning_rate)
    return listeners


def _replay(
    callbacks: Iterable[keras.callbacks.Callback],
    history: Sequence[EpochRow],
    optimizer: keras.optimizers.Optimizer,
    rate: float,
) -> None:
    """Bring callbacks to the state that they had after these epochs, and the learning rate with them.

    They are those of Keras that set the rate or stop early, and any with a true attribute `replays_history`. The rate
    is set to the first one before, because a checkpoint within an epoch has that epoch's already.
    """
    shown = [c for c in callbacks if isinstance(c, _REPLAYED) or getattr(c, "replays_history", False)]
    if any(isinstance(callback, _SET_THE_RATE) for callback in shown):
        optimizer.learning_rate = rate
    for epoch, row in enumerate(history):
        logs = {name: value for name, value in row.items() if name not in ("epoch", "step")}
        for callback in shown:
            callback.on_epoch_begin(epoch)
        for callback in shown:
            callback.on_epoch_end(epoch, dict(logs))


def _load(text: str, config: TrainConfig) -> keras.callbacks.Callback:
    module, name, settings = parse_callback(text)
    try:
        callback = getattr(importlib.import_module(module), name)(**settings)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--callback {text}: cannot import it ({error}); give package.module:Class, with its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # a user's class raises anything
        raise InputError(
            f"--callback {text}: {type(error).__name__}: {error}; settings follow as name=value"
        ) from error
    if not isinstance(callback, keras.callbacks.Callback):
        raise InputError(f"--callback {text}: a {type(callback).__name__}, not a keras.callbacks.Callback")
    _check(callback, config, f"--callback {text}")
    return callback
