import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.feed.python_calls import original_error, python_call

# `consume` makes an iterator of a data set: the feed's own, or the prefetching one with its thread.
HOLDS_ITERATORS = """
from pipeline.train.prefetch import prefetch_to_devices
from pipeline.train.devices import make_devices
from pipeline.feed.dataset import Position, Replicas, make_resident_dataset
from pipeline.feed.order import Steps
from pipeline.feed.resident import SplitArrays

held, arrays, devices = [], SplitArrays.empty(200_000, 784), make_devices()
for _ in range(8):
    dataset = make_resident_dataset(arrays, Steps(200_000, 1000, 10), 0, Position(0, 0, 99), Replicas())
    held.append({consume})
    next(held[-1])
{end}
"""


@pytest.mark.parametrize(
    ("consume", "end", "code"),
    [("iter(dataset)", "print('done')", 0), ("prefetch_to_devices(dataset, devices)", "raise ValueError", 1)],
    ids=["iterators at the last line", "prefetched at an error"],
)
def test_program_that_holds_iterators_ends(consume, end, code):
    # The next epochs' orders are being drawn at that time; without a wait for them it never ended.
    program = textwrap.dedent(HOLDS_ITERATORS).format(consume=consume, end=end)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)


def error_of_pipeline(error):
    """What a pipeline ends with if its Python function raises this error."""

    def fail(_):
        raise error

    dataset = tf.data.Dataset.range(1).map(lambda row: python_call(fail, [row], [tf.int32]))
    with pytest.raises(tf.errors.OpError) as caught:
        next(iter(dataset))
    return caught.value


@pytest.mark.parametrize("error", [InputError("row 7: 'é' is wrong; fix it"), KeyError("a"), RuntimeError("x" * 9000)])
def test_original_error_is_the_raised_exception_itself(error):
    ended_with = error_of_pipeline(error)
    assert original_error(ended_with) is error
    assert original_error(ended_with) is None  # it is not kept


def test_errors_of_two_pipelines_are_distinguished():
    first, second = InputError("row 1"), InputError("row 11")
    ends = [error_of_pipeline(error) for error in (first, second)]
    assert [original_error(end) for end in ends] == [first, second]


def test_errors_of_other_origin_have_no_original():
    assert original_error(ValueError("row 7")) is None
    assert original_error(tf.errors.InvalidArgumentError(None, None, "ValueError: row 7")) is None
