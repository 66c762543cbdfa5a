"""One worker of a multi-worker training: python -m tests.helpers.worker DATA RUN_DIR [SETTINGS], these as JSON.

It prints the run's JSON lines, and a hash of its weights last.
"""

import hashlib
import json
import pathlib
import sys

import pytest

from pipeline.train.environment import import_tensorflow


def main() -> None:
    import_tensorflow()
    from tests.helpers.small_run import SmallRun

    data, run_dir = map(pathlib.Path, sys.argv[1:3])
    settings = {"strategy": "multiworker", "epochs": 2, **json.loads("".join(sys.argv[3:]) or "{}")}
    run = SmallRun(pytest.MonkeyPatch(), data, run_dir, **settings)
    run.fit()
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in run.model.get_weights())).hexdigest()
    run.devices.wait_for_all()
    print(run.out.getvalue(), end="")
    print(json.dumps({"event": "ended", "text": "", "worker": run.devices.worker, "weights": digest}))


if __name__ == "__main__":
    main()
