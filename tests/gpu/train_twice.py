"""Train on the same data twice in one process, and print whether both end with the same bits.

python -m tests.gpu.train_twice DATA
"""

import pathlib
import sys

import numpy as np

from pipeline.train.environment import import_tensorflow


def main() -> None:
    import_tensorflow()
    from pipeline.train.devices import make_devices
    from tests.helpers.steps import Steps

    devices, weights = make_devices("one", 1), []
    for _ in range(2):
        steps = Steps(pathlib.Path(sys.argv[1]), devices, precision="auto")
        steps.train()
        weights.append(steps.weights())
    equal = all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    print(devices.accelerator, "same bits" if equal else "other bits")


if __name__ == "__main__":
    main()
