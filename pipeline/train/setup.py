"""From a plan to a trainer: the network, the optimizer, the data and the run directory that it names."""

import functools
import traceback
from collections.abc import Callable
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf

from models import parse_network
from models.layer_types import PLAIN, LayerTypes, layers_that_mix_rows, training_layers
from pipeline.errors import InputError
from pipeline.feed.dataset import (
    HostScaling,
    Position,
    make_evaluation_dataset,
    make_resident_dataset,
    make_stream_dataset,
)
from pipeline.feed.holdout import load_rows
from pipeline.feed.order import Steps
from pipeline.feed.resident import SplitArrays, load_split
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import Manifest
from pipeline.format.text_ids import original_ids
from pipeline.mirror import Mirror, as_given
from pipeline.splits import TRAIN, VAL
from pipeline.train.audit import EpochAudit
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.devices import Devices
from pipeline.train.environment import numerics
from pipeline.train.loop import Trainer
from pipeline.train.optimizer import make_optimizer
from pipeline.train.prefetch import Feeds
from pipeline.train.progress import Reporter
from pipeline.train.run_dir import RunDirectory
from pipeline.train.run_plan import RunPlan
from pipeline.train.step import CompiledSteps
from pipeline.train.stored import Stamp, network_fingerprint

_START = Position(0, 0, 1)
_CAUSE = "Exception encountered: "  # how Keras prefixes the error of a layer within a model
_MAX_REASON = 120  # characters; Keras repeats the whole configuration of a layer


def make_model(plan: RunPlan, devices: Devices) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The network and its optimizer, with their variables on every replica; the same ones for the same seed."""
    config, manifest = plan.config, plan.manifest
    keras.utils.set_random_seed(config.seed % 2**32)
    with devices.strategy.scope():
        model = make_network(config.model, manifest, plan.precision, training_layers())
        if config.xla and devices.replicas.total > 1 and model.non_trainable_variables:
            raise InputError(
                f"--xla cannot compile {config.model} for {devices.replicas.total} replicas, which share the "
                "statistics of its normalization; omit it"
            )
        _check_padding(plan, devices, model)
        optimizer = make_optimizer(config, plan.steps.per_epoch * config.epochs, plan.precision)
        optimizer.build(model.trainable_variables)
        # Callbacks look for the optimizer on the model; training itself does not go through fit().
        model.compile(optimizer, auto_scale_loss=False, jit_compile=False)
    return model, optimizer


def _check_padding(plan: RunPlan, devices: Devices, model: keras.Model) -> None:
    """InputError if padding would count in what a user's network computes over the rows of a batch."""
    padding, mixing = plan.steps.padding, layers_that_mix_rows(model)
    if padding and mixing and (devices.replicas.total > 1 or plan.config.xla):
        raise InputError(
            f"--model {plan.config.model}: {mixing[0]} would count the {padding} rows of padding in an epoch's last "
            "batch, which only one device without --xla drops; take normalization from layer_types "
            "(models/__init__.py) and omit activity regularizers, or let --batch-size divide the rows"
        )


def make_network(name: str, manifest: Manifest, dtype: str = "float32", layer_types: LayerTypes = PLAIN) -> keras.Model:
    """The network that `--model` names, for the images and classes of a data set.

    Raises:
        InputError: there is no such network, or it is not one that can be trained (`models/__init__.py`).
    """
    shape, num_classes = manifest.image_shape, manifest.num_classes
    network = parse_network(name)
    try:
        model = network.load()(shape, num_classes, dtype=dtype, layer_types=layer_types)
        if isinstance(model, keras.Sequential):  # which has no output of its own before it is called
            model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
        if "logits" not in [layer.name for layer in model.layers]:
            raise ValueError("no layer is called logits, whose softmax is the output; models/__init__.py describes it")
        logits, output = model.get_layer("logits").output, model.output
    except ValueError as error:  # also Keras's, if there is no such layer or a layer does not fit the images
        raise InputError(f"--model {name}: {error}") from error
    except Exception as error:  # a user's function raises anything
        places = traceback.extract_tb(error.__traceback__)[2:3]  # after this function and Network.load's
        where = "".join(f" ({place.filename}, line {place.lineno})" for place in places)
        raise InputError(
            f"--model {name}: {type(error).__name__}: {error}{where}; models/__init__.py describes a builder"
        ) from error
    if tuple(output.shape) != (None, num_classes) or logits.shape != output.shape:
        raise InputError(f"--model {name}: its output is {output.shape}, not probabilities of {num_classes} classes")
    if network.is_own:
        _check_loadable(name, model, layer_types)
        _check_softmax(name, keras.Model(model.input, [logits, output]), shape)
    return model


def _check_loadable(name: str, model: keras.Model, layer_types: LayerTypes) -> None:
    """InputError if Keras could not build the model from its configuration, as it does to load model.keras."""
    ours = {kind.__name__: kind for kind in layer_types}  # the exported model has Keras's own layers instead
    try:
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model), custom_objects=ours)
    except Exception as error:  # Keras raises whatever the layers raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # The outermost line is advice on any error; the innermost one names the class or function.
        causes = [line.partition(_CAUSE)[2] for line in lines if _CAUSE in line] or lines
        raise InputError(
            f"--model {name}: model.keras could not be loaded ({causes[-1].partition('. ')[0][:_MAX_REASON]}); put "
            "@keras.saving.register_keras_serializable() before each class and function of yours, and use no lambda"
        ) from error


def _check_softmax(name: str, model: keras.Model, shape: tuple[int, int, int]) -> None:
    """InputError unless `model`, of logits and output, gives the softmax: training and evaluation would disagree."""
    logits, output = (np.asarray(tf.cast(values, tf.float32)) for values in model(tf.ones((1, *shape))))
    if not np.allclose(tf.nn.softmax(logits), output, atol=0.02):
        raise InputError(
            f"--model {name}: its output is not the softmax of its layer logits, which the loss is computed from; "
            "end it with keras.layers.Softmax"
        )


def claim_run(
    run: RunDirectory,
    plan: RunPlan,
    devices: Devices,
    model: keras.Model,
    reporter: Reporter,
    mirror: Mirror | None = None,
) -> CheckpointStore:
    """Take the run directory for this run, as the chief of all workers; returns the store of its checkpoints.

    `mirror` is that of the run directory, if it is in an object store.

    Raises:
        InputError: it is in use or not this run's, or the workers differ in their settings or their run directory.
    """
    stamp = Stamp(plan.identity(network_fingerprint(model)), numerics())
    devices.check_agreement(plan.shared_settings(stamp.identity), "start all with the same settings")
    start, problem = "", ""
    if devices.is_chief:
        description = {**plan.describe(devices), "numerics": msgspec.to_builtins(stamp.numerics)}
        try:
            start, remarks = run.claim(stamp.identity, description, plan.config.fresh)
            if mirror is not None:
                mirror.push()
        except InputError as error:
            remarks, problem = [], str(error)
        for remark in remarks:
            reporter.line(remark)
    start, problem = devices.gather([start, problem])[0]  # returns once the chief has written it
    if problem:
        raise InputError(problem)  # on every worker, so that all end alike
    if mirror is not None:
        mirror.pull()
    stored = run.earlier()
    shared = {f"the run in {as_given(run.path)}": stored.start if stored else None}
    devices.check_agreement(shared, "--run-dir must be one directory that all workers share")
    # Other workers read checkpoints too, so then each is on the disk before the next step.
    in_background = devices.num_workers == 1
    return CheckpointStore(run.checkpoints, stamp, plan.steps, plan.config.keep_checkpoints, in_background, mirror)


def make_trainer(
    plan: RunPlan,
    devices: Devices,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    store: CheckpointStore,
    reporter: Reporter,
) -> Trainer:
    """The loop that trains the model on the planned data, which are loaded for it."""
    feeds = make_feeds(plan, devices)
    compiled = make_compiled_steps(plan, devices, model, optimizer, feeds)
    return Trainer(plan, devices, compiled, feeds, store, reporter)


def make_feeds(plan: RunPlan, devices: Devices) -> Feeds:
    """Load the data as planned, or open it if it is streamed."""
    config, steps, manifest, replicas = plan.config, plan.steps, plan.manifest, devices.replicas
    on_host = config.scale == "host"
    read_ids = functools.partial(original_ids, config.data, manifest, TRAIN)
    scaling = HostScaling(plan.normalization, manifest.image_shape, plan.compute_dtype) if on_host else None
    if plan.feed_plan.feed == "stream":
        reader, budget = SplitReader(config.data, manifest, TRAIN), plan.feed_plan.budget

        def stream(at: Position, budget: int) -> tf.data.Dataset:
            return make_stream_dataset(reader, budget, steps, config.seed, at, replicas, scaling)

        return Feeds(
            lambda at: stream(at, budget),
            # In windows of one call: training's stay in memory beside them, and are larger than all that is needed.
            lambda: stream(_START, 0),
            _make_validation(plan, devices, scaling),
            None,
            lambda rows: read_ids(np.array([reader.read_rows(row, row + 1).ids[0] for row in rows], np.int64)),
            np.array(manifest.split(TRAIN).class_counts),
        )
    arrays, held_out, _ = load_rows(config.data, manifest, plan.holdout)
    fed, fed_scaling, table = (None, None, arrays) if plan.feed_plan.feed == "device" else (arrays, scaling, None)

    def resident(at: Position) -> tf.data.Dataset:
        return make_resident_dataset(fed, steps, config.seed, at, replicas, fed_scaling)

    return Feeds(
        resident,
        lambda: resident(_START),
        _make_validation(plan, devices, scaling, held_out),
        table,
        lambda rows: read_ids(arrays.ids[rows]),
        np.bincount(arrays.labels, minlength=manifest.num_classes),
    )


def make_compiled_steps(
    plan: RunPlan, devices: Devices, model: keras.Model, optimizer: keras.optimizers.Optimizer, feeds: Feeds
) -> CompiledSteps:
    """The compiled training and evaluation of the model on elements of these feeds."""
    audit = EpochAudit(devices.strategy, plan.steps.num_examples) if plan.config.audit else None
    return CompiledSteps(plan, devices, model, optimizer, feeds, audit)


def make_inference_model(model: keras.Model, plan: RunPlan) -> keras.Model:
    """A float32 copy of plain Keras layers, off every strategy: for evaluation, export and use elsewhere."""
    copy = make_network(plan.config.model, plan.manifest)
    copy.set_weights(model.get_weights())
    return copy


def _make_validation(
    plan: RunPlan, devices: Devices, scaling: HostScaling | None, held_out: SplitArrays | None = None
) -> Callable[[], tf.data.Dataset] | None:
    source: SplitArrays | SplitReader | None = held_out
    if plan.holdout.uses_val:
        # Validation is streamed if training is, so that both together keep to the budget.
        make_source: Any = SplitReader if plan.feed_plan.feed == "stream" else load_split
        source = make_source(plan.config.data, plan.manifest, VAL)
    if source is None:
        return None
    steps = Steps(len(source), plan.config.batch_size).in_even_calls(plan.steps.steps_per_call)
    return lambda: make_evaluation_dataset(source, steps, devices.replicas, scaling)
