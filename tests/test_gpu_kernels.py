"""What a training step would do on a GPU, by the kernels that TensorFlow registers for it; none is needed here.

A logical CPU stands in for the GPU: what is not placed on CPU:0 would run on the GPU.
"""

import collections
import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import kernels, op_def_registry

from pipeline.feed.dataset import Replicas
from pipeline.train import run_plan
from pipeline.train.devices import make_devices
from tests.helpers.steps import Steps

# What is started as no kernel: a name for a tensor, control flow, a change of shape.
_FREE = {"Const", "Identity", "Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond", "NoOp", "ReadVariableOp"}
_FREE |= {"Reshape", "ExpandDims", "Squeeze", "StridedSlice"}
_GPU = "CPU:1"
BEST = {"model": "residual,width=4", "augment": "digits", "optimizer": "adamw", "schedule": "one-cycle", "ema": 0.99}


@pytest.fixture
def pretended_gpu(monkeypatch):
    monkeypatch.setattr(run_plan, "device_memory", lambda devices: 8 << 30)
    tf.config.optimizer.set_experimental_options({"remapping": False})  # it fuses other operations on CPUs
    one = make_devices("one")
    strategy = tf.distribute.OneDeviceStrategy(_GPU)
    yield dataclasses.replace(one, strategy=strategy, accelerator="GPU", names=(_GPU,), replicas=Replicas(1, 0, 1))
    tf.config.optimizer.set_experimental_options({"remapping": True})


def nodes_of_a_call(steps):
    """The nodes of the first call of training, as TensorFlow executes them."""
    parts, count = steps.elements(1)[0]
    context.enable_run_metadata()
    try:
        with tf.device(_GPU):  # where a GPU takes all that is not placed
            steps.compiled.train(parts, count, 0)
        graphs = [graph.post_optimization_graph.node for graph in context.export_run_metadata().function_graphs]
    finally:
        context.disable_run_metadata()
    return max(graphs, key=len)


@functools.cache
def kernels_for(operation):
    """Its kernels for GPUs, then those for any device, by priority."""
    known = kernels.get_registered_kernels_for_op(operation).kernel
    fitting = [kernel for kernel in known if kernel.device_type in ("GPU", "DEFAULT") and not kernel.label]
    return sorted(fitting, key=lambda kernel: (kernel.device_type != "GPU", -kernel.priority))


def kernel_of(node):
    """The kernel that a GPU takes for a node: its own, else one for any device; None if there is neither."""

    def fits(kernel):
        wanted = ((constraint.allowed_values.list.type, node.attr[constraint.name]) for constraint in kernel.constraint)
        return all(set(attr.list.type or [attr.type]) <= set(allowed) for allowed, attr in wanted)

    return next(filter(fits, kernels_for(node.op)), None)


def on_host(node, arguments):
    """For each tensor of a node's inputs or outputs, whether it lies in the host's memory."""
    kernel = None if node.device.endswith("CPU:0") else kernel_of(node)
    for argument in arguments:
        several = list(node.attr[argument.type_list_attr].list.type)
        types = several or [argument.type or node.attr[argument.type_attr].type]
        count = node.attr[argument.number_attr].i if argument.number_attr else 1
        for kind in types * count:
            handle = kind in (types_pb2.DT_RESOURCE, types_pb2.DT_STRING)
            yield handle or kernel is None or argument.name in kernel.host_memory_arg


@pytest.mark.parametrize(("settings", "limit"), [({}, 125), (BEST, 296)], ids=["tutorial", "best"])
def test_the_host_waits_for_nothing_within_a_call_and_starts_few_kernels(digits, pretended_gpu, settings, limit):
    nodes = nodes_of_a_call(Steps(digits, pretended_gpu, **{"precision": "mixed_bfloat16", **settings}))
    inside = [node for node in nodes if node.name.startswith("while/")]
    assert [node.op for node in inside if not node.device.endswith("CPU:0") and kernel_of(node) is None] == []
    sources = {node.name: list(on_host(node, op_def_registry.get(node.op).output_arg)) for node in nodes}
    waits = []
    for node in inside:
        data = [name.partition(":") for name in node.input if not name.startswith("^")]
        hosts = on_host(node, op_def_registry.get(node.op).input_arg)
        for (source, _, output), host in zip(data, hosts, strict=True):
            if host and not sources[source][int(output or 0)]:
                waits.append(f"{node.op} {node.name} reads {source}")
    assert waits == []
    outputs = {node.name: sources[node.name] or [node.device.endswith("CPU:0")] for node in inside}
    started = collections.Counter(node.op for node in inside if node.op not in _FREE and not all(outputs[node.name]))
    assert started.total() <= limit, started


def normalized(image_shape, num_classes):
    inputs = keras.Input(image_shape)
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(num_classes, name="logits")(x)))


def test_a_gpu_drops_padding_only_in_calls_that_have_some_and_trains_alike(digits, pretended_gpu):
    settings = {"model": f"{__name__}:normalized", "ema": 0.9, "feed": "host"}
    gpu, cpu = Steps(digits, pretended_gpu, **settings), Steps(digits, make_devices("one"), **settings)
    np.testing.assert_array_equal(gpu.train(calls=4), cpu.train(calls=4))  # an epoch's 13 steps, and 2 more
    for ours, expected in zip(gpu.weights(), cpu.weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert [steps.compiled._train_call.experimental_get_tracing_count() for steps in (gpu, cpu)] == [2, 1]
