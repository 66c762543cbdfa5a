import threading

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import InputError
from pipeline.feed.dataset import Position, Replicas, make_stream_dataset
from pipeline.feed.order import Steps
from pipeline.feed.stream import SplitReader
from pipeline.format.manifest import load_manifest
from pipeline.train.devices import make_devices
from pipeline.train.prefetch import prefetch_to_devices
from tests.helpers.datasets import write_digits


def elements(count, replicas=2):
    """Element k holds k for the first replica, k + 100 for the second, and a count of k."""
    numbers = tf.data.Dataset.range(count)
    return numbers.map(
        lambda k: {
            "count": tf.cast([k], tf.float32),
            "replicas": tuple({"index": k + 100 * r} for r in range(replicas)),
        }
    )


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_each_replica_gets_its_part_in_order():
    devices = make_devices("mirrored", 2)
    read = tf.function(lambda parts: devices.strategy.run(lambda part: part["index"], args=(parts,)))
    for k, (parts, count) in enumerate(prefetch_to_devices(elements(5), devices)):
        values = devices.strategy.experimental_local_results(read(parts))
        np.testing.assert_array_equal([int(value) for value in values], [k, k + 100])
        assert float(count[0]) == k
    assert k == 4
    assert prefetch_threads() == []


def test_closing_it_early_ends_its_thread():
    feed = prefetch_to_devices(elements(1000, replicas=1), make_devices("one"))
    next(feed)
    assert len(prefetch_threads()) == 1
    feed.close()
    assert prefetch_threads() == []


def test_an_error_of_the_data_reaches_the_loop():
    bad = elements(5, replicas=1).map(lambda e: {**e, "count": tf.debugging.check_numerics(e["count"] / 0, "bad")})
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad"):
        list(prefetch_to_devices(bad, make_devices("one")))


def test_a_corrupt_record_in_a_stream_is_the_readers_own_error(tmp_path):
    directory = write_digits(tmp_path / "digits")
    manifest = load_manifest(directory)
    shard = directory / manifest.split("train").shards[0].name
    shard.write_bytes(bytes(manifest.stride) + shard.read_bytes()[manifest.stride :])
    reader = SplitReader(directory, manifest, "train")
    stream = make_stream_dataset(reader, 10**6, Steps(203, 16), 0, Position(0, 0, 1), Replicas())
    with pytest.raises(InputError, match=rf"^{directory}.*{shard.name}: record 0 .*python tools/inspect[^\n]*$"):
        list(prefetch_to_devices(stream, make_devices("one")))
