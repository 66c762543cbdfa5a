"""What TensorFlow itself sees of this machine, as a JSON line; it is started without the package's own settings."""

import json


def main() -> None:
    import keras
    import tensorflow as tf

    from pipeline.train.devices import choose_precision

    gpus = tf.config.list_physical_devices("GPU")
    found = {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "built_with_cuda": tf.test.is_built_with_cuda(),
        "gpus": [_describe(gpu) for gpu in gpus],
        "precision": choose_precision("auto", "GPU" if gpus else "CPU"),
    }
    print(json.dumps(found), flush=True)
    for index in range(len(gpus)):
        with tf.device(f"GPU:{index}"):
            total = float(tf.reduce_sum(tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))))
        print(json.dumps({"gpu": index, "computes": total == 64.0**3}), flush=True)


def _describe(gpu) -> dict:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(gpu)
    capability = ".".join(map(str, details.get("compute_capability", ())))
    return {"name": details.get("device_name", gpu.name), "capability": capability}


if __name__ == "__main__":
    main()
