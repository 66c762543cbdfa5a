"""One worker of a multi-worker training: python -m tests.helpers.worker DATA RUN_DIR [SETTINGS], these as JSON.

It prints the run's JSON lines, the number of pages that it read, and a hash of its weights last. After the step
`die_after` of an epoch, if that setting is given, the chief kills itself.
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
from typing import Any

from pipeline.cli import run_command
from pipeline.format.shards import ShardReader
from pipeline.train.environment import import_tensorflow


def count_pages() -> list[int]:
    """A list that gets the number of pages of each read of a shard from now on."""
    pages: list[int] = []
    read = ShardReader.read

    def counted(self: ShardReader, first: int, count: int) -> Any:
        pages.append(-(-(first + count) // self.page_rows) - first // self.page_rows)
        return read(self, first, count)

    ShardReader.read = counted  # type: ignore[method-assign]
    return pages


def main(_: object = None) -> None:
    import_tensorflow()
    import keras

    from tests.helpers.small_run import SmallRun

    data, run_dir = map(pathlib.Path, sys.argv[1:3])
    settings = {"strategy": "multiworker", "epochs": 2, **json.loads("".join(sys.argv[3:]) or "{}")}
    die_after = settings.pop("die_after", None)
    run = SmallRun(data, run_dir, **settings)
    pages = count_pages()  # without those of the plan, which looks at a few hundred images

    def die(batch: int, logs: object) -> None:
        if die_after is not None and run.devices.is_chief and batch >= die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    with run.devices.watching_workers():
        run.fit([keras.callbacks.LambdaCallback(on_train_batch_end=die)])
        digest = hashlib.sha256(b"".join(weight.tobytes() for weight in run.model.get_weights())).hexdigest()
        run.devices.wait_for_all()
    print(run.out.getvalue(), end="")
    print(json.dumps({"event": "read", "text": "", "pages": sum(pages)}))
    print(json.dumps({"event": "ended", "text": "", "worker": run.devices.worker, "weights": digest}))


if __name__ == "__main__":
    run_command(main)
