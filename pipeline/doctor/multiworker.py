"""The canary of several workers: Keras' fit() as one of them, which TF_CONFIG names. Prints what happened as JSON."""

import json
import os

from pipeline.train.environment import import_tensorflow


def main() -> None:
    tf = import_tensorflow()
    import keras

    # It must exist before any other TensorFlow operation.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((tf.ones((16, 1)), tf.ones((16, 1)))).batch(8)
    try:
        model.fit(data.repeat(), steps_per_epoch=2, verbose=0)
        found = {"bites": False, "seen": "fit() ran on two workers"}
    except Exception as error:  # of any kind: which one it is has changed before
        found = {"bites": True, "seen": f"fit() raised {type(error).__name__} on two workers"}
    print(json.dumps({"ended": "several_workers", **found}), flush=True)
    # A worker that leaves by the usual way waits for the others.
    os._exit(0)


if __name__ == "__main__":
    main()
