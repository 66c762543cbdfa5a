"""Small real programs, one a trap: each falls into it where the installed TensorFlow and Keras still have it.

python -m pipeline.doctor.canaries NAME ...

runs them on two logical CPUs, and prints before each its name and after it what happened, a JSON object a line. Traps
are named as in `pipeline/doctor/traps.py`. A canary returns whether the trap bites, and what was seen.
"""

import json
import pathlib
import sys
import tempfile
import traceback
from collections.abc import Callable

from pipeline.train.environment import import_tensorflow

Outcome = tuple[bool, str]


def loss_scale() -> Outcome:
    """An overflow on the second replica, under Keras' own loss scaling and under ours."""
    import keras

    from pipeline.train.loss_scale import ReplicaSafeLossScaleOptimizer

    theirs = _weight_after_overflow(keras.optimizers.LossScaleOptimizer)
    ours = _weight_after_overflow(ReplicaSafeLossScaleOptimizer)
    if ours != 1.0:
        raise AssertionError(f"with the package's own loss scaling the weight became {ours}")
    return theirs != 1.0, f"an overflow on the second replica made the weight {theirs}"


def _weight_after_overflow(optimizer_class) -> float:
    import keras
    import tensorflow as tf

    strategy = _two_replicas()
    with strategy.scope():
        weight = keras.Variable(1.0)
        optimizer = optimizer_class(keras.optimizers.SGD(0.5), initial_scale=8.0)
        optimizer.build([weight])

    @tf.function
    def step():
        def replica_step():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.where(tf.equal(replica, 1), -float("inf"), 1.0)
            optimizer.apply([gradient], [weight])

        strategy.run(replica_step)

    step()
    return float(keras.ops.convert_to_numpy(weight))


def several_steps_on_replicas() -> Outcome:
    """fit() with two steps a call on two replicas, with the reduction that MirroredStrategy takes by itself."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    model = _compiled(strategy, steps_per_execution=2)
    try:
        model.fit(_examples(8).repeat(), steps_per_epoch=4, verbose=0)
    except tf.errors.OpError as error:
        return True, f"fit() raised {type(error).__name__}"
    return False, "fit() ran"


def overshoot() -> Outcome:
    """Ten steps an epoch, four a call, on endless data."""
    model = _compiled(steps_per_execution=4)
    model.fit(_examples(8).repeat(), steps_per_epoch=10, epochs=1, verbose=0)
    steps = int(model.optimizer.iterations.numpy())
    return steps != 10, f"{steps} steps where 10 were asked for"


def backup_and_restore() -> Outcome:
    """A run of two epochs of five steps that is interrupted after the eighth step, and started again."""
    import keras

    class Interruption(Exception):
        pass

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, *_, **__):
            if int(self.model.optimizer.iterations.numpy()) == 8:
                raise Interruption

    with tempfile.TemporaryDirectory() as folder:
        for callbacks in ([Interrupt()], []):
            model = _compiled()
            backup = keras.callbacks.BackupAndRestore(str(pathlib.Path(folder) / "backup"), save_freq=2)
            try:
                model.fit(_examples(5), epochs=2, verbose=0, callbacks=[backup, *callbacks])
            except Interruption:
                continue
    steps = int(model.optimizer.iterations.numpy())
    return steps != 10, f"a run of 10 steps that was interrupted and resumed took {steps}"


def dropout_on_replicas() -> Outcome:
    """The masks of Keras' dropout, and of ours, on two replicas."""
    import keras
    import numpy as np
    import tensorflow as tf

    from models.dropout import DropoutState, StepDropout, dropout_state

    strategy = _two_replicas()
    with strategy.scope():
        theirs, ours = keras.layers.Dropout(0.5, seed=1), StepDropout(0.5)

    @tf.function
    def masks(layer):
        def mask():
            first_row = 4 * tf.distribute.get_replica_context().replica_id_in_sync_group
            with dropout_state(DropoutState(0, tf.constant(0, tf.int64), first_row)):
                return layer(tf.ones((4, 16)), training=True)

        return strategy.experimental_local_results(strategy.run(mask))

    first, second = (np.asarray(value) for value in masks(ours))
    if np.array_equal(first, second):
        raise AssertionError("the package's own dropout drew one mask for two replicas")
    first, second = (np.asarray(value) for value in masks(theirs))
    same = np.array_equal(first, second)
    return same, f"two replicas drew {'the same mask' if same else 'masks of their own'}"


def dropout_state_in_weights() -> Outcome:
    """Whether a model whose weights were saved and loaded draws the mask that comes next."""
    import keras
    import numpy as np

    def make():
        return keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, seed=1)])

    ones, model, loaded = np.ones((1, 64), "float32"), make(), make()
    model(ones, training=True)
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "model.weights.h5")
        model.save_weights(path)
        loaded.load_weights(path)
    same = np.array_equal(model(ones, training=True), loaded(ones, training=True))
    return not same, f"the mask after a load is {'the one that was next' if same else 'not the one that was next'}"


def data_read_twice() -> Outcome:
    """How often fit() under a strategy reads a source whose examples go through a shuffle buffer."""
    import tensorflow as tf

    reads = []

    def read():
        for _ in range(64):
            reads.append(1)
            yield [1.0], [1.0]

    signature = (tf.TensorSpec([1]), tf.TensorSpec([1]))
    source = tf.data.Dataset.from_generator(read, output_signature=signature)
    _compiled(_two_replicas()).fit(source.shuffle(64).batch(8), epochs=1, verbose=0)
    return len(reads) > 64, f"64 examples were read {len(reads)} times in one epoch"


def empty_replica() -> Outcome:
    """Nine examples in batches of eight on two replicas, the second of which gets none of the last batch."""
    import keras
    import numpy as np
    import tensorflow as tf

    strategy = _two_replicas()
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((tf.range(9.0)[:, None], tf.ones((9, 1)))).batch(8)
    model.fit(data, epochs=1, verbose=0)
    finite = all(np.isfinite(weight).all() for weight in model.get_weights())
    return not finite, f"an uneven last batch left the weights {'finite' if finite else 'not finite'}"


def damaged_record() -> Outcome:
    """What tf.data reads of a file of ten records, the third of which has a flipped bit, and what it says of it."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "ten.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(10):
                writer.write(bytes(20))
        data = bytearray(path.read_bytes())
        data[2 * len(data) // 10 + 20] ^= 1
        path.write_bytes(data)
        source = tf.data.TFRecordDataset(str(path))
        kept = sum(1 for _ in source.ignore_errors())
        try:
            for _ in source:
                pass
            named = True
        except tf.errors.DataLossError as error:
            named = path.name in error.message
    return kept < 9 or not named, f"{kept} of 9 whole records are read, the file is {'' if named else 'not '}named"


CANARIES: dict[str, Callable[[], Outcome]] = {
    canary.__name__: canary
    for canary in (
        *(loss_scale, overshoot, backup_and_restore, dropout_on_replicas, dropout_state_in_weights),
        # Last, what may leave TensorFlow's runtime in disorder.
        *(data_read_twice, empty_replica, damaged_record, several_steps_on_replicas),
    )
}


def _two_replicas():
    import tensorflow as tf

    reduce = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduce)


def _compiled(strategy=None, **options):
    """A model of one unit."""
    import contextlib

    import keras

    with strategy.scope() if strategy else contextlib.nullcontext():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False, **options)
    return model


def _examples(batches: int):
    """Batches of eight examples."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((tf.ones((8 * batches, 1)), tf.ones((8 * batches, 1)))).batch(8)


def main() -> None:
    tf = import_tensorflow()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for name in sys.argv[1:]:
        print(json.dumps({"begun": name}), flush=True)
        try:
            bites, seen = CANARIES[name]()
            found = {"bites": bites, "seen": seen}
        except Exception as error:  # any at all: a canary that fails otherwise says that something has changed
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps({"ended": name, **found}), flush=True)


if __name__ == "__main__":
    main()
