"""One worker of a multi-worker training: python -m tests.worker DATA RUN_DIR; prints a hash of its weights."""

import hashlib
import pathlib
import sys

import pytest

from pipeline.train.environment import import_tensorflow


def main() -> None:
    import_tensorflow()
    from tests.training import SmallRun

    data, run_dir = map(pathlib.Path, sys.argv[1:])
    run = SmallRun(pytest.MonkeyPatch(), data, run_dir, strategy="multiworker", epochs=2)
    run.fit(store=run.store if run.cluster.is_chief else None)
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in run.model.get_weights())).hexdigest()
    run.cluster.wait_for_all()
    print(f"worker {run.cluster.worker} of {run.cluster.num_workers}: {digest}")


if __name__ == "__main__":
    main()
