import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from pipeline.feed.python_calls import python_call

# `consume` makes an iterator of a data set: the feed's own, or the hand-over to replicas with its thread.
HOLDS_ITERATORS = """
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.devices import make_devices
from pipeline.feed.dataset import Position, Replicas, make_resident_dataset
from pipeline.feed.order import Steps
from pipeline.feed.resident import SplitArrays
import numpy as np

rows = 200_000
arrays = SplitArrays(np.zeros((rows, 784), np.uint8), np.zeros(rows, np.int32), np.arange(rows))
held, devices = [], make_devices()
for _ in range(8):
    dataset = make_resident_dataset(arrays, Steps(200_000, 1000, 10), 0, Position(0, 0, 99), Replicas())
    held.append({consume})
    next(held[-1])
{end}
"""


@pytest.mark.parametrize(
    "consume", ["iter(dataset)", "prefetch_to_devices(dataset, devices)"], ids=["iterator", "hand-over"]
)
@pytest.mark.parametrize(
    ("end", "code"),
    [("print('done')", 0), ("raise SystemExit(3)", 3), ("raise ValueError", 1)],
    ids=["its last line", "an exit", "an error"],
)
def test_a_program_that_holds_iterators_ends(consume, end, code):
    # The next epochs' orders are being drawn then, and without a wait for them it never ended.
    program = textwrap.dedent(HOLDS_ITERATORS).format(consume=consume, end=end)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)


def test_what_a_function_raises_reaches_the_consumer():
    def broken(_):
        raise ValueError("row 7 is wrong")

    dataset = tf.data.Dataset.range(1).map(lambda row: python_call(broken, [row], [tf.int32]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="ValueError: row 7 is wrong"):
        next(iter(dataset))
