"""Traps of TensorFlow and Keras that the package works around, one test each.

When one fails, the installed versions no longer have that trap, and the workaround that its docstring names can go.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.dropout import StepDropout
from models.step_state import StepState, step_state
from pipeline.train.cluster import free_ports
from pipeline.train.optimizer import ReplicaSafeLossScaleOptimizer
from tests.helpers.commands import WatchedCommand

pytestmark = pytest.mark.skipif(not keras.__version__.startswith("3.15."), reason="another Keras has other traps")


def two_replicas() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice())


def compiled(**options) -> keras.Model:
    """A model with one unit."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False, **options)
    return model


def examples(batches: int) -> tf.data.Dataset:
    """Batches of eight examples."""
    return tf.data.Dataset.from_tensor_slices((tf.ones((8 * batches, 1)), tf.ones((8 * batches, 1)))).batch(8)


def weight_after_overflow(optimizer_class) -> float:
    """A weight of 1 after one step whose gradient overflows on the second replica."""
    strategy = two_replicas()
    with strategy.scope():
        weight = keras.Variable(1.0)
        optimizer = optimizer_class(keras.optimizers.SGD(0.5), initial_scale=8.0)
        optimizer.build([weight])

    @tf.function
    def step():
        def replica_step():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            optimizer.apply([tf.where(tf.equal(replica, 1), -float("inf"), 1.0)], [weight])

        strategy.run(replica_step)

    step()
    return float(keras.ops.convert_to_numpy(weight))


def test_loss_scaling_checks_the_first_replica_only():
    """Worked around by pipeline/train/recovery.py."""
    assert weight_after_overflow(ReplicaSafeLossScaleOptimizer) == 1.0
    assert not np.isfinite(weight_after_overflow(keras.optimizers.LossScaleOptimizer))


def test_fit_runs_more_steps_than_requested():
    """Worked around by our own loop, and in pipeline/feed/order.py by calls that divide an epoch evenly."""
    model = compiled(steps_per_execution=4)
    model.fit(examples(8).repeat(), steps_per_epoch=10, epochs=1, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 12


def test_backup_and_restore_repeats_steps(tmp_path):
    """Worked around by pipeline/train/checkpoint.py, which saves the position within the epoch."""

    class Interruption(Exception):
        pass

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, *_, **__):
            if int(self.model.optimizer.iterations.numpy()) == 8:
                raise Interruption

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), save_freq=2)

    with pytest.raises(Interruption):
        compiled().fit(examples(5), epochs=2, verbose=0, callbacks=[backup(), Interrupt()])
    model = compiled()
    model.fit(examples(5), epochs=2, verbose=0, callbacks=[backup()])
    assert int(model.optimizer.iterations.numpy()) > 10


def masks_on_replicas(make_layer) -> list[np.ndarray]:
    """The output for ones of each of two replicas."""
    strategy = two_replicas()
    with strategy.scope():
        layer = make_layer()

    @tf.function
    def masks():
        def mask():
            first_row = 4 * tf.distribute.get_replica_context().replica_id_in_sync_group
            with step_state(StepState(0, tf.constant(0, tf.int64), first_row)):
                return layer(tf.ones((4, 16)), training=True)

        return strategy.experimental_local_results(strategy.run(mask))

    return [value.numpy() for value in masks()]


def test_dropout_draws_the_same_mask_on_every_replica():
    """Worked around by models/step_state.py, whose numbers follow from the place in the global batch."""
    first, second = masks_on_replicas(lambda: StepDropout(0.5))
    assert (first != second).any()
    np.testing.assert_array_equal(*masks_on_replicas(lambda: keras.layers.Dropout(0.5, seed=1)))


def test_weights_do_not_hold_the_state_of_dropout(tmp_path):
    """Worked around by models/step_state.py, which stores nothing."""
    ones = np.ones((1, 64), "float32")
    model, loaded = (keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, seed=1)]) for _ in range(2))
    model(ones, training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert not np.array_equal(model(ones, training=True), loaded(ones, training=True))


def test_fit_under_a_strategy_reads_the_data_twice():
    """Worked around by our own loop, which builds the model from shapes (pipeline/train/setup.py)."""
    reads = []

    def read():
        for _ in range(64):
            reads.append(1)
            yield [1.0], [1.0]

    source = tf.data.Dataset.from_generator(read, output_signature=(tf.TensorSpec([1]), tf.TensorSpec([1])))
    with two_replicas().scope():
        model = compiled()
    model.fit(source.shuffle(64).batch(8), epochs=1, verbose=0)
    assert len(reads) > 64


def test_a_replica_without_examples_breaks_batch_normalization():
    """Worked around in pipeline/feed/order.py, which pads the last batch with examples of weight 0."""
    with two_replicas().scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
    # Nine examples in batches of eight: the last batch has one, for the first replica.
    data = tf.data.Dataset.from_tensor_slices((tf.range(9.0)[:, None], tf.ones((9, 1)))).batch(8)
    model.fit(data, epochs=1, verbose=0)
    assert not all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_corrupt_record_hides_those_after_it_and_its_file(tmp_path):
    """Worked around by reading shards as byte matrices with page checksums (pipeline/format/shards.py)."""
    path = tmp_path / "ten.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(10):
            writer.write(bytes(20))
    data = bytearray(path.read_bytes())
    data[2 * len(data) // 10 + 20] ^= 1
    path.write_bytes(data)
    assert sum(1 for _ in tf.data.TFRecordDataset(str(path)).ignore_errors()) == 2
    with pytest.raises(tf.errors.DataLossError) as caught:
        list(tf.data.TFRecordDataset(str(path)))
    assert path.name not in caught.value.message


def test_convert_to_tensor_copies_numpy_arrays():
    """Worked around by pipeline/feed/resident.py, whose tensors share the memory of arrays."""
    array = np.zeros(1 << 20, np.uint8)
    tensor = tf.convert_to_tensor(array)
    array[0] = 1
    assert int(tensor[0]) == 0


FIT = """
import os
import keras, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = {strategy}
with strategy.scope():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False, steps_per_execution={steps_per_execution})
data = tf.data.Dataset.from_tensor_slices((tf.ones((16, 1)), tf.ones((16, 1)))).batch(8)
try:
    model.fit(data.repeat(), steps_per_epoch=4, verbose=0)
    print("fit ran", flush=True)
except Exception as error:
    print("fit raised", type(error).__name__, flush=True)
os._exit(0)  # a worker that ends as usual waits for the others
"""


def fit_elsewhere(strategy: str, steps_per_execution: int = 1, **environment: str) -> WatchedCommand:
    """fit() in a process of its own, because its failure leaves TensorFlow's runtime in disorder."""
    program = FIT.format(strategy=strategy, steps_per_execution=steps_per_execution)
    return WatchedCommand([sys.executable, "-c", program], env={**os.environ, **environment})


def test_fit_fails_with_several_steps_per_execution_on_replicas():
    """Worked around by pipeline/train/step.py, which runs several steps per call itself."""
    with fit_elsewhere("tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])", steps_per_execution=2) as command:
        command.wait()
    assert command.out == "fit raised InvalidArgumentError\n", command.err


def test_fit_fails_on_several_workers():
    """Worked around by our own loop (pipeline/train/loop.py)."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                fit_elsewhere(
                    "tf.distribute.MultiWorkerMirroredStrategy()",
                    TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
                )
            )
            for index in range(2)
        ]
        # One that failed leaves, and the other may wait for it for ever.
        assert workers[0].wait_until(lambda: any(worker.out for worker in workers)) or workers[0].out
    assert any(worker.out.startswith("fit raised") for worker in workers), workers[0].err
